/** Tollkeeper as a reverse proxy, the full job: credential, limit, forward, access log, metrics. */
import { upstreamBody } from '../harness/answers.js';
import { tightLimit } from '../harness/stage.js';
import type { LoadReport } from '../load/load.js';
import { productRequest, statusFaults } from './scenario.js';
import { type TollkeeperLoad, tollkeeperScenario } from './tollkeeper-subject.js';

const signedBodyBytes = 1024;

export const proxyBearer = tollkeeperScenario(
  'proxy-bearer',
  'Tollkeeper, Bearer tokens, all admitted: token, limit, forward, access log, metrics',
  (store) => fetching(store.unlimited),
);

export const proxyBearerLeased = tollkeeperScenario(
  'proxy-bearer-leased',
  'as proxy-bearer, but the tokens are leased: units charged in advance, most requests ask Redis nothing',
  async (_store, stage) => fetching(await stage.leased()),
);

function fetching(tokens: readonly string[]): Omit<TollkeeperLoad, 'store'> {
  return {
    plane: 'data',
    plan: { kind: 'fixed', requests: tokens.map(productRequest) },
    bodies: [upstreamBody],
    faults: (report) => statusFaults(report, [200]),
  };
}

export const proxyHmac = tollkeeperScenario(
  'proxy-hmac',
  'Tollkeeper, POST of 1 KiB, signed with a nonce of its own each: the body is read, hashed, verified, forwarded',
  (store) => {
    const path = '/api/v1/products/42';
    const headers = { 'Content-Type': 'text/plain' };
    return {
      plane: 'data',
      plan: {
        kind: 'signed',
        request: { method: 'POST', path, headers, body: 'x'.repeat(signedBodyBytes) },
        signs: { method: 'POST', target: path },
        tokens: store.signing,
      },
      bodies: [upstreamBody],
      faults: (report) => statusFaults(report, [200]),
    };
  },
);

export const proxyDenied = tollkeeperScenario(
  'proxy-denied',
  'Tollkeeper, Bearer tokens far over their limit: a flood of 429, each logged and counted',
  (store) => ({
    plane: 'data',
    plan: { kind: 'fixed', requests: store.tight.map(productRequest) },
    bodies: [upstreamBody],
    bodyContains: 'problems/rate-limit-exceeded',
    deniedTokens: store.tight.length,
    faults: (report) => [...statusFaults(report, [200, 429]), ...tooManyAdmitted(report)],
  }),
);

/** Each tight token may pass its limit once a minute; earlier runs may have used it up. */
function tooManyAdmitted(report: LoadReport): string[] {
  const admitted = report.statuses['200'] ?? 0;
  const tokens = 4;
  const most = tokens * tightLimit * Math.ceil(1 + report.window.durationMs / 30_000);
  return admitted > most ? [`${admitted} admitted, at most ${most} may be`] : [];
}
