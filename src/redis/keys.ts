/**
 * Every key name in Redis, in one place; docs/redis-keys.md is generated from `keyCatalogue`.
 *
 * All keys that one admission touches share one hash tag, so that the same script runs on one server and on a
 * cluster: the tag is one of 64 virtual shards. A tenant's shard comes from its slug, and a token's id is drawn so
 * that it falls into its tenant's shard (docs/adr/0002): the id alone leads to the shard.
 */
import { crc32 } from 'node:zlib';

const shardCount = 64;

/** Virtual shard of a text (a tenant's slug, a token's id): '00' to '3f'. */
export function shardOf(text: string): string {
  return shardNames[crc32(text) & (shardCount - 1)] as string;
}

const shardNames = Array.from({ length: shardCount }, (_, shard) => shard.toString(16).padStart(2, '0'));

/** All shard names, for what must exist once in each ({@link keys.meta}). */
export const allShards: readonly string[] = shardNames;

/** Number of the shard in whose hash tag a token's or tenant's key lies, 0 to 63. */
export function shardNumberOf(key: string): number {
  return Number.parseInt(key.slice(key.indexOf('{') + 1, key.indexOf('}')), 16);
}

export const keys = {
  meta: (shard: string): string => `tk:meta:{${shard}}`,
  tenants: (): string => 'tk:tenants',
  /** There while a backup is being restored. */
  restore: (): string => 'tk:restore',
  tenant: (slug: string): string => `tk:tenant:{${shardOf(slug)}}:${slug}`,
  tenantTokens: (slug: string): string => `tk:tokens:{${shardOf(slug)}}:${slug}`,
  token: (id: string): string => `tk:token:{${shardOf(id)}}:${id}`,
  foreign: (sha256Hex: string): string => `tk:foreign:{${shardOf(sha256Hex)}}:${sha256Hex}`,
  /** Signatures of the tokens of a shard that are kept until the same second (Unix time, ms). */
  replay: (id: string, untilMs: number): string => `tk:replay:{${shardOf(id)}}:${untilMs}`,
  /** One stream per tenant and UTC day (`yyyy-mm-dd`); requests of no known tenant go to `_`. */
  log: (tenant: string, day: string): string => `log:{${tenant}}:${day}`,
  /** Last record number of each writer in a stream. */
  logTotals: (tenant: string, day: string): string => `tk:logwriters:{${tenant}}:${day}`,
  /** Where the entries of one token stand in the stream of its day. */
  logIndex: (tenant: string, id: string, day: string): string => `tk:logplaces:{${tenant}}:${id}:${day}`,
  logSequence: (group: string, writer: string): string => `tk:logseq:{${group}}:${writer}`,
  /** Usage of a token; without an id, of all tokens of the tenant. */
  usage: (tenant: string, id = ''): string => (id === '' ? `tk:usage:{${tenant}}` : `tk:usage:{${tenant}}:${id}`),
  /** What was counted last of a token or tenant and is not in its usage yet. */
  recentUsage: (tenant: string, id = ''): string =>
    id === '' ? `tk:recent:{${tenant}}` : `tk:recent:{${tenant}}:${id}`,
  users: (): string => 'tk:users:{admin}',
  user: (name: string): string => `tk:user:{admin}:${name}`,
  userAdminKeys: (user: string): string => `tk:user-keys:{admin}:${user}`,
  adminKey: (id: string): string => `tk:admin-key:{admin}:${id}`,
  userSessions: (user: string): string => `tk:user-sessions:{admin}:${user}`,
  session: (sha256Hex: string): string => `tk:session:{admin}:${sha256Hex}`,
  /** `what` is `pair`, `address` or `account`; `subject` a hash of what is counted. */
  loginAttempts: (what: string, subject: string): string => `tk:login-${what}:{admin}:${subject}`,
  knownPlaces: (subject: string): string => `tk:login-known:{admin}:${subject}`,
  idempotency: (sha256Hex: string): string => `tk:idempotency:{admin}:${sha256Hex}`,
  audit: (): string => 'tk:audit:{admin}',
  auditHead: (): string => 'tk:audit-head:{admin}',
} as const;

/** Channel on which every change of a token or tenant is announced (payload: `token:<id>` or `tenant:<slug>`). */
export const changesChannel = 'tk:changes';

/** What a token or tenant hash holds; the admission script reads these fields by name. */
export const recordFields = {
  /** Integer, raised by every change; what a sidecar decided under an older one is decided again. */
  version: 'version',
  /** Compiled limits, fixed-size binary: admission/limit.ts. */
  limits: 'limits',
  /** Used units by limit, binary: written by lua/admit.lua alone, which describes it. */
  counters: 'counters',
  /** There once units were leased: whoever changes the record waits until leases are over. Written by lua/admit.lua. */
  leased: 'leased',
  /** The record itself, JSON. */
  record: 'record',
} as const;

interface KeyDescription {
  readonly key: string;
  readonly type: string;
  readonly holds: string;
  readonly bound: string;
}

export const keyCatalogue: readonly KeyDescription[] = [
  {
    key: 'tk:meta:{shard}',
    type: 'hash',
    holds:
      '`schema` (version), `installation` (id), `createdAt`, `tenantVersion` (highest of a deleted tenant); one in each of the 64 shards',
    bound: '64 keys',
  },
  {
    key: 'tk:restore',
    type: 'hash',
    holds: '`sha256` of the backup that is being restored, `startedAt`',
    bound: 'one key, gone when the restore is complete',
  },
  { key: 'tk:tenants', type: 'sorted set', holds: 'tenant slugs by time of creation', bound: 'one member a tenant' },
  {
    key: 'tk:tenant:{shard}:<slug>',
    type: 'hash',
    holds: '`version`, `record` (JSON), `limits` and `counters` (binary), `leased` (a mark), `maxTokens`, `state`',
    bound: 'one a tenant',
  },
  {
    key: 'tk:tokens:{shard}:<slug>',
    type: 'sorted set',
    holds: "ids of the tenant's tokens by time of creation",
    bound: "the tenant's `maxTokens`",
  },
  {
    key: 'tk:token:{shard}:<id>',
    type: 'hash',
    holds:
      '`version`, `record` (JSON with the SHA-256 of the secret), `limits` and `counters` (binary), `leased` (a mark)',
    bound: 'one a token',
  },
  {
    key: 'tk:foreign:{shard}:<sha256>',
    type: 'string',
    holds: 'id of the imported token with that SHA-256',
    bound: 'one an imported token; 30 s while an import is under way',
  },
  {
    key: 'tk:replay:{shard}:<ms>',
    type: 'set',
    holds: 'signatures that were used and are remembered until that time, 32 bytes each',
    bound: 'expires at that time, when their timestamp has left the window, at most 601 s; 602 a shard',
  },
  {
    key: 'log:{<tenant>}:<yyyy-mm-dd>',
    type: 'stream',
    holds: 'access log of one tenant and UTC day',
    bound: '`logRetentionDays` after its day; `logStreamMaxEntries` entries',
  },
  {
    key: 'tk:logseq:{group}:<writer>',
    type: 'string',
    holds: 'number of the last log batch of one writer, and how many of its entries were written and failed',
    bound: 'expires a day after its last batch',
  },
  {
    key: 'tk:logwriters:{<tenant>}:<yyyy-mm-dd>',
    type: 'hash',
    holds: 'number of the last record of each writer in the stream of that day; `lateMs`, the longest an entry waited',
    bound: 'as the stream; one field a process that wrote that day',
  },
  {
    key: 'tk:logplaces:{<tenant>}:<id>:<yyyy-mm-dd>',
    type: 'string',
    holds: 'where the entries of the token stand in the stream of that day, one record a batch (lua/log-append.lua)',
    bound: 'as the stream; about 10,000 records of 12 bytes',
  },
  {
    key: 'tk:recent:{<tenant>}:<id>, tk:recent:{<tenant>}',
    type: 'string',
    holds:
      'what was counted last of a token, and of all tokens of a tenant: records that are not in `tk:usage` yet (lua/log-append.lua)',
    bound: 'one a token and one a tenant; 512 bytes and what one batch adds; expires as `tk:usage`',
  },
  {
    key: 'tk:usage:{<tenant>}:<id>, tk:usage:{<tenant>}',
    type: 'hash',
    holds:
      'usage of a token, and of all tokens of a tenant, without `tk:recent`: `calls`, `lastUsedAt`, `lastUsedIp`, `lastUsedAgent`; sums of hours, days and the lifetime, calls by route (lua/log-append.lua)',
    bound:
      'one a token and one a tenant; 24 + 30 + 1 sums, 64 routes; there once `tk:recent` has been full; expires 400 days after the last day of calls',
  },
  {
    key: 'tk:users:{admin}',
    type: 'sorted set',
    holds: 'names of the users by time of creation',
    bound: '10,000 members',
  },
  {
    key: 'tk:user:{admin}:<name>',
    type: 'hash',
    holds: '`version`, `record` (JSON with the scrypt hash of the password)',
    bound: 'one a user',
  },
  {
    key: 'tk:user-keys:{admin}:<name>',
    type: 'sorted set',
    holds: "ids of the user's personal admin keys by the time at which they end",
    bound: '20 members; expires with the last of them',
  },
  {
    key: 'tk:admin-key:{admin}:<id>',
    type: 'hash',
    holds: '`version`, `record` (JSON with the SHA-256 of the key)',
    bound: '20 a user; expires with the key, after 366 days at most',
  },
  {
    key: 'tk:user-sessions:{admin}:<name>',
    type: 'sorted set',
    holds: 'SHA-256 of the ids of the sessions of a user by the time at which they end',
    bound: '20 members; expires with the last of them',
  },
  {
    key: 'tk:session:{admin}:<sha256>',
    type: 'string',
    holds: 'a session (JSON); its id is known to the browser alone',
    bound: '20 a user; expires when it is idle (`adminSessionIdleMinutes`)',
  },
  {
    key: 'tk:login-pair:{admin}:<hash>, tk:login-address:…, tk:login-account:…',
    type: 'string',
    holds: 'failed logins of an account from an address, from an address, of an account',
    bound: 'expire after 15, 15 and 60 minutes; each takes a whole attempt to log in',
  },
  {
    key: 'tk:login-known:{admin}:<hash>',
    type: 'sorted set',
    holds: 'addresses (IPv6: /64) that an account (its hash) was used from, by the time until which they are known',
    bound: '16 members; expires 90 days after the last login',
  },
  {
    key: 'tk:idempotency:{admin}:<sha256>',
    type: 'string',
    holds: 'what became of a POST with an `Idempotency-Key`; sealed under the master key',
    bound: 'expires after 24 hours; at most 64 KiB',
  },
  {
    key: 'tk:audit:{admin}',
    type: 'stream',
    holds: 'who changed what: records that are chained by their hashes, `<sequence number>-0` each',
    bound: '`auditMaxEntries` records',
  },
  {
    key: 'tk:audit-head:{admin}',
    type: 'hash',
    holds: '`seq` and `hash` of the last audit record, `anchorSeq` and `anchorHash` of the last one that was cut off',
    bound: 'one key',
  },
];
