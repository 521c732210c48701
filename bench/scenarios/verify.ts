/** Tollkeeper's verify plane: the whole decision for a proxy that asks, no upstream. */
import { statusFaults } from './scenario.js';
import { type TollkeeperLoad, tollkeeperScenario } from './tollkeeper-subject.js';

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

export const verifyBearer = tollkeeperScenario(
  'verify-bearer',
  'Tollkeeper answers a proxy that asks (`GET /verify`), Bearer tokens, all admitted, each logged and counted',
  (store) => asking(store.unlimited),
);

export const verifyBearerLeased = tollkeeperScenario(
  'verify-bearer-leased',
  'as verify-bearer, but the tokens are leased: units charged in advance, most requests ask Redis nothing',
  async (_store, stage) => asking(await stage.leased()),
);

function asking(tokens: readonly string[]): Omit<TollkeeperLoad, 'store'> {
  const requests = tokens.map((token) => ({
    method: 'GET' as const,
    path: '/verify',
    headers: { ...original, Authorization: `Bearer ${token}` },
  }));
  return {
    plane: 'verify',
    env,
    plan: { kind: 'fixed', requests },
    bodies: [''],
    heads,
    faults: (report) => statusFaults(report, [200]),
  };
}

export const verifyHmac = tollkeeperScenario(
  'verify-hmac',
  'as verify-bearer, but every request is signed, with a nonce of its own',
  (store) => ({
    plane: 'verify',
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
  }),
);
