/** The demo's configuration, written as a file that its reader can keep as a start of their own. */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface DemoAddresses {
  readonly listen: string;
  readonly adminListen: string;
  readonly upstream: string;
  readonly redisUrl: string;
}

/**
 * Writes `tollkeeper.yaml` into the demo's folder, readable by its owner only, and answers its path. The keys are
 * those of the first run, since HMAC secrets of before are encrypted under one of them.
 */
export function writeConfiguration(directory: string, addresses: DemoAddresses): string {
  const path = join(directory, 'tollkeeper.yaml');
  const masterKey = keptSecret(join(directory, 'master.key'), () => randomBytes(32).toString('base64'));
  const adminKey = keptSecret(join(directory, 'admin.key'), () => randomBytes(32).toString('hex'));
  writeFileSync(path, configurationText(addresses, masterKey, adminKey), { mode: 0o600 });
  return path;
}

function keptSecret(path: string, draw: () => string): string {
  if (!existsSync(path)) writeFileSync(path, `${draw()}\n`, { mode: 0o600 });
  return readFileSync(path, 'utf8').trim();
}

function configurationText(addresses: DemoAddresses, masterKey: string, adminKey: string): string {
  return `# Written by \`tollkeeper demo\` at its start; its changes are overwritten by the next one.
listen: ${JSON.stringify(addresses.listen)}
verifyListen: "off"
adminListen: ${JSON.stringify(addresses.adminListen)}
upstream: ${JSON.stringify(addresses.upstream)}
redisUrl: ${JSON.stringify(addresses.redisUrl)}
# On a computer that is busy with other things a slow answer is no outage; in production leave the default of 100.
redisCommandTimeoutMs: 2000
masterKey: ${JSON.stringify(masterKey)}
adminKey: ${JSON.stringify(adminKey)}
policy:
  default: deny
  scopes: [products:read, products:write, orders:read, orders:write, customers:read, analytics:read]
  routes:
    - { methods: [GET, HEAD], path: /api/v1/products, scope: products:read }
    - { methods: [GET, HEAD], path: "/api/v1/products/{id}", scope: products:read }
    - { methods: [POST], path: /api/v1/products, scope: products:write }
    - { methods: [GET, HEAD], path: /api/v1/orders, scope: orders:read }
    - { methods: [GET, HEAD], path: "/api/v1/orders/{id}", scope: orders:read }
    - { methods: [POST], path: "/api/v1/orders/{id}/retry", scope: orders:write, cost: 5 }
    - { methods: [GET, HEAD], path: /api/v1/customers, scope: customers:read }
    - { methods: [GET, HEAD], path: "/api/v1/customers/{id}", scope: customers:read }
    - { methods: [GET, HEAD], path: /api/v1/analytics/summary, scope: analytics:read }
    - { methods: [GET, HEAD], path: /status, public: true }
`;
}
