/** Tenants and tokens as the CLI and the admin plane open them, each over a connection of its own. */
import type { Redis } from 'ioredis';
import { connect } from '../../src/redis/connect.js';
import { Store, type StoreOptions } from '../../src/redis/store.js';
import { TenantRepository } from '../../src/tenant/repository.js';
import { type ImportDraft, parseImportDraft, parseTokenDraft, type TokenDraft } from '../../src/token/draft.js';
import { TokenRepository, type TokenRepositoryOptions } from '../../src/token/repository.js';

export interface Repositories {
  readonly redis: Redis;
  readonly store: Store;
  readonly tenants: TenantRepository;
  readonly tokens: TokenRepository;
}

export interface RepositoriesOptions extends Partial<StoreOptions & TokenRepositoryOptions> {
  /** Deadline of a command of Redis, ms (20,000). */
  readonly commandTimeoutMs?: number;
}

/** Opens a new connection to `url` and answers when it is ready. Close with `store.close()`. */
export async function openRepositories(
  url: string,
  { commandTimeoutMs = 20_000, ...options }: RepositoriesOptions = {},
): Promise<Repositories> {
  const redis = connect({ url, commandTimeoutMs }, 'control');
  // Commands of people have 2 s, whatever the deadline of requests is; a busy machine must not fail what is set up.
  redis.options.commandTimeout = commandTimeoutMs;
  await new Promise<void>((resolve) => {
    redis.once('ready', resolve);
  });
  const store = new Store(redis, { redisMinReplicas: 0, ...options });
  const tokens = new TokenRepository(store, { tokenPrefix: 'tk_live', ...options });
  return { redis, store, tenants: new TenantRepository(store, options.now), tokens };
}

/** A draft with the given fields beside a name. */
export function tokenDraft(fields: object = {}): TokenDraft {
  return parseTokenDraft({ name: 'a token', ...fields }, Date.now());
}

/** A draft of an import with the given fields beside a name. */
export function importDraft(sha256: string, fields: object = {}): ImportDraft {
  return parseImportDraft({ name: 'an import', sha256, ...fields }, Date.now());
}
