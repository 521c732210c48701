/** Tollkeeper as a reverse proxy, the full job: credential, limit, forward, access log, metrics. */
import { upstreamBody } from '../harness/answers.js';
import { tightLimit } from '../harness/stage.js';
import type { LoadReport } from '../load/load.js';
import { productRequest, type Scenario, statusFaults } from './scenario.js';
import { startSubject } from './tollkeeper-subject.js';

const signedBodyBytes = 1024;

export const proxyBearer: Scenario = {
  name: 'proxy-bearer',
  about: 'Tollkeeper, Bearer tokens, all admitted: token, limit, forward, access log, metrics',
  isPeer: false,
  profiled: true,
  missing: () => undefined,
  async start(stage, options) {
    const store = await stage.store();
    return startSubject(stage, options, {
      plane: 'data',
      store,
      plan: { kind: 'fixed', requests: store.unlimited.map(productRequest) },
      bodies: [upstreamBody],
      faults: (report) => statusFaults(report, [200]),
    });
  },
};

export const proxyBearerLeased: Scenario = {
  name: 'proxy-bearer-leased',
  about: 'as proxy-bearer, but the tokens are leased: units charged in advance, most requests ask Redis nothing',
  isPeer: false,
  profiled: true,
  missing: () => undefined,
  async start(stage, options) {
    const store = await stage.store();
    return startSubject(stage, options, {
      plane: 'data',
      store,
      plan: { kind: 'fixed', requests: (await stage.leased()).map(productRequest) },
      bodies: [upstreamBody],
      faults: (report) => statusFaults(report, [200]),
    });
  },
};

export const proxyHmac: Scenario = {
  name: 'proxy-hmac',
  about:
    'Tollkeeper, POST of 1 KiB, signed with a nonce of its own each: the body is read, hashed, verified, forwarded',
  isPeer: false,
  profiled: true,
  missing: () => undefined,
  async start(stage, options) {
    const store = await stage.store();
    const path = '/api/v1/products/42';
    const headers = { 'Content-Type': 'text/plain' };
    return startSubject(stage, options, {
      plane: 'data',
      store,
      plan: {
        kind: 'signed',
        request: { method: 'POST', path, headers, body: 'x'.repeat(signedBodyBytes) },
        signs: { method: 'POST', target: path },
        tokens: store.signing,
      },
      bodies: [upstreamBody],
      faults: (report) => statusFaults(report, [200]),
    });
  },
};

export const proxyDenied: Scenario = {
  name: 'proxy-denied',
  about: 'Tollkeeper, Bearer tokens far over their limit: a flood of 429, each logged and counted',
  isPeer: false,
  profiled: true,
  missing: () => undefined,
  async start(stage, options) {
    const store = await stage.store();
    return startSubject(stage, options, {
      plane: 'data',
      store,
      plan: { kind: 'fixed', requests: store.tight.map(productRequest) },
      bodies: [upstreamBody],
      bodyContains: 'problems/rate-limit-exceeded',
      faults: (report) => [...statusFaults(report, [200, 429]), ...tooManyAdmitted(report)],
    });
  },
};

/** Each tight token may pass its limit once a minute; earlier runs may have used it up. */
function tooManyAdmitted(report: LoadReport): string[] {
  const admitted = report.statuses['200'] ?? 0;
  const tokens = 4;
  const most = tokens * tightLimit * Math.ceil(1 + report.window.durationMs / 30_000);
  return admitted > most ? [`${admitted} admitted, at most ${most} may be`] : [];
}
