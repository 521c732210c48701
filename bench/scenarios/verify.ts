/** Tollkeeper's verify plane: the whole decision for a proxy that asks, no upstream. */
import type { Stage } from '../harness/stage.js';
import { type Scenario, statusFaults, type Subject, type SubjectOptions } from './scenario.js';
import { startSubject } from './tollkeeper-subject.js';

const asked = '/api/v1/products/42';
/** What a proxy says of the request it holds. */
const original = {
  'X-Forwarded-Method': 'GET',
  'X-Forwarded-Uri': asked,
  'X-Forwarded-Proto': 'http',
  'X-Forwarded-Host': 'api.example.com',
  'X-Forwarded-For': '203.0.113.7',
};
/** The load generator is the proxy that asks. */
const env = { TOLLKEEPER_TRUSTED_PROXIES: '127.0.0.1' };
const heads = ['X-Tollkeeper-Token-Id: ', 'X-Tollkeeper-Tenant: ', 'X-Tollkeeper-Scopes: products:read'];

export const verifyBearer: Scenario = {
  name: 'verify-bearer',
  about: 'Tollkeeper answers a proxy that asks (`GET /verify`), Bearer tokens, all admitted, each logged and counted',
  isPeer: false,
  profiled: true,
  missing: () => undefined,
  async start(stage, options) {
    const store = await stage.store();
    return startAsking(stage, options, store.unlimited);
  },
};

export const verifyBearerLeased: Scenario = {
  name: 'verify-bearer-leased',
  about: 'as verify-bearer, but the tokens are leased: units charged in advance, most requests ask Redis nothing',
  isPeer: false,
  profiled: true,
  missing: () => undefined,
  start: async (stage, options) => startAsking(stage, options, await stage.leased()),
};

async function startAsking(stage: Stage, options: SubjectOptions, tokens: readonly string[]): Promise<Subject> {
  const requests = tokens.map((token) => ({
    method: 'GET' as const,
    path: '/verify',
    headers: { ...original, Authorization: `Bearer ${token}` },
  }));
  return startSubject(stage, options, {
    plane: 'verify',
    store: await stage.store(),
    env,
    plan: { kind: 'fixed', requests },
    bodies: [''],
    heads,
    faults: (report) => statusFaults(report, [200]),
  });
}

export const verifyHmac: Scenario = {
  name: 'verify-hmac',
  about: 'as verify-bearer, but every request is signed, with a nonce of its own',
  isPeer: false,
  profiled: true,
  missing: () => undefined,
  async start(stage, options) {
    const store = await stage.store();
    return startSubject(stage, options, {
      plane: 'verify',
      store,
      env,
      plan: {
        kind: 'signed',
        request: { method: 'GET', path: '/verify', headers: original },
        signs: { method: 'GET', target: asked },
        tokens: store.signing,
      },
      bodies: [''],
      heads,
      faults: (report) => statusFaults(report, [200]),
    });
  },
};
