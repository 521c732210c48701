/** What the demo finds in its Redis: two tenants and their tokens. */
import { parseMasterKeys, sealSecret } from '../credential/sealed-secret.js';
import { minReplicas, redisSettings, requireKey } from '../config/require.js';
import type { Config } from '../config/schema.js';
import { connectOrFail } from '../redis/connect.js';
import { Store } from '../redis/store.js';
import { parseTenantDraft } from '../tenant/draft.js';
import { TenantRepository } from '../tenant/repository.js';
import { parseTokenDraft } from '../token/draft.js';
import { TokenRepository } from '../token/repository.js';

/** Secrets of the demo's tokens, by what they show. */
export interface DemoTokens {
  /** Bearer, tenant acme, reads products and orders. */
  readonly reader: string;
  /** Bearer, tenant acme, every scope. */
  readonly writer: string;
  /** Bearer, tenant globex, three calls a minute. */
  readonly limited: string;
  /** HMAC, tenant acme, reads products and orders. */
  readonly signing: string;
}

const tenants = [
  { slug: 'acme', name: 'Acme Outdoor' },
  { slug: 'globex', name: 'Globex Coffee' },
] as const;

const everyScope = [
  'products:read',
  'products:write',
  'orders:read',
  'orders:write',
  'customers:read',
  'analytics:read',
];

const tokens: Readonly<Record<keyof DemoTokens, { readonly tenant: string; readonly draft: object }>> = {
  reader: { tenant: 'acme', draft: { name: 'Storefront', scopes: ['products:read', 'orders:read'] } },
  writer: { tenant: 'acme', draft: { name: 'Back office', scopes: everyScope } },
  limited: {
    tenant: 'globex',
    draft: { name: 'Price robot', scopes: ['products:read'], rateLimit: { limit: 3, window: 60 } },
  },
  signing: { tenant: 'acme', draft: { name: 'Warehouse', scopes: ['products:read', 'orders:read'], mode: 'hmac' } },
};

/** Marks a token as the demo's own. */
const metadataKey = 'demo';

/**
 * Sees to the tenants and draws the tokens. A secret is known only when it is drawn, so the demo's tokens of an
 * earlier run are replaced; whatever else is there stays.
 */
export async function prepareTenants(config: Config): Promise<DemoTokens> {
  const redis = await connectOrFail(redisSettings(config));
  const store = new Store(redis, { redisMinReplicas: minReplicas(config) });
  try {
    const tenantRepository = new TenantRepository(store);
    const masterKeys = parseMasterKeys(requireKey(config, 'masterKey'));
    const tokenRepository = new TokenRepository(store, {
      tokenPrefix: config.tokenPrefix,
      sealSecret: (plaintext, tokenId) => sealSecret(plaintext, tokenId, masterKeys),
    });
    for (const tenant of tenants) {
      if ((await tenantRepository.find(tenant.slug)) === null) await tenantRepository.create(parseTenantDraft(tenant));
      await removeEarlier(tokenRepository, tenant.slug);
    }
    const draw = async (key: keyof DemoTokens): Promise<string> => {
      const { tenant, draft } = tokens[key];
      const complete = parseTokenDraft({ ...draft, metadata: { [metadataKey]: key } }, Date.now());
      return (await tokenRepository.create(tenant, complete)).secret;
    };
    return {
      reader: await draw('reader'),
      writer: await draw('writer'),
      limited: await draw('limited'),
      signing: await draw('signing'),
    };
  } finally {
    await store.close();
  }
}

async function removeEarlier(repository: TokenRepository, tenant: string): Promise<void> {
  const { records } = await repository.list(tenant, { page: 1, perPage: 100 });
  for (const record of records) {
    if (record.metadata[metadataKey] !== undefined) await repository.delete(record.id);
  }
}
