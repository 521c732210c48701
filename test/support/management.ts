/** The management layer over a connection of its own, as commands and the admin plane open it. */
import { parseMasterKeys } from '../../src/credential/sealed-secret.js';
import { Management, type ManagementOptions } from '../../src/management/management.js';
import type { Principal } from '../../src/management/principal.js';
import type { StoreOptions } from '../../src/redis/store.js';
import { readLastUsed } from '../../src/usage/reader.js';
import { openRepositories } from './repositories.js';

export const operator: Principal = {
  kind: 'admin-key',
  name: 'admin-key',
  role: 'operator',
  tenant: null,
  address: '192.0.2.1',
};

/** An owner of the tenant. */
export function ownerOf(tenant: string): Principal {
  return { kind: 'session', name: `owner-${tenant}`, role: 'owner', tenant, address: '192.0.2.2' };
}

/** Opens it on the Redis at `url`. Close with `management.store.close()`. */
export async function openManagement(
  url: string,
  options: Partial<ManagementOptions> = {},
  storeOptions: Partial<StoreOptions> = {},
): Promise<Management> {
  const { store, redis } = await openRepositories(url, storeOptions);
  return new Management(store, {
    tokenPrefix: 'tk_live',
    masterKeys: parseMasterKeys(Buffer.alloc(32, 7).toString('base64')),
    auditMaxEntries: 1000,
    lastUsed: (tenant, ids) => readLastUsed(redis, tenant, ids),
    outcomeLost: (change, error) => {
      throw new Error(`the outcome of ${change.action} was lost`, { cause: error });
    },
    ...options,
  });
}
