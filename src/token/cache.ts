/**
 * Records as the data plane uses them, ready to be compared with, and the bounded caches that hold them.
 *
 * A cached record needs no expiry: every admission asks Redis whether `version` is still the one that was decided
 * under, and gets the new record in the same reply when it is not. Least recently used goes first.
 */
import { LRUCache } from 'lru-cache';
import { type LimitHeaders, prepareLimitHeaders } from '../admission/rate-headers.js';
import { isFieldValue } from '../http/field.js';
import { keys } from '../redis/keys.js';
import { RecordError } from '../tenant/record-reader.js';
import { decodeTenantRecord, type TenantRecord, tenantLimits } from '../tenant/tenant.js';
import { decodeTokenRecord, effectiveLimits, type TokenRecord } from './token.js';

export interface PreparedToken {
  readonly id: string;
  readonly version: number;
  readonly record: TokenRecord;
  readonly tokenKey: string;
  readonly tenantKey: string;
  /** 32 bytes to compare a SHA-256 with; all zero in mode hmac, which no digest equals. */
  readonly secretDigest: Buffer;
  /** The digest in grace; it counts only before `record.previousUntil`. */
  readonly previousDigest: Buffer | null;
  readonly scopes: ReadonlySet<string>;
  /** Scopes joined by spaces, as upstream gets them. */
  readonly scopesHeader: string;
  /** `X-Tollkeeper-Token-Id`, `-Tenant`, `-Scopes` and `-Subject`, each begun by CR LF. */
  readonly identityFields: string;
  /** The token is expired from this time on, ms since 1970; 0: never. */
  readonly notAfterMs: number;
  /** Addresses and CIDRs as the record has them; empty: from anywhere. */
  readonly allowedIps: readonly string[];
  /** Its requests may be admitted by a lease (admission/leases.ts). */
  readonly leasable: boolean;
  /** Headers of the effective limits, in the order a verdict counts them. */
  readonly limitHeaders: readonly LimitHeaders[];
}

export interface PreparedTenant {
  readonly slug: string;
  readonly version: number;
  readonly record: TenantRecord;
  readonly key: string;
  readonly limitHeaders: readonly LimitHeaders[];
}

const noDigest = Buffer.alloc(32);

/** Most tokens have the scopes of many others. */
const scopeSets = new Map<string, ReadonlySet<string>>();
const scopeSetsMax = 1000;

/** `scopes` hold no line feed: {@link identityFields} has seen to it. */
function scopeSet(scopes: readonly string[]): ReadonlySet<string> {
  const name = `${scopes.length}\n${scopes.join('\n')}`;
  let set = scopeSets.get(name);
  if (set === undefined) {
    set = new Set(scopes);
    if (scopeSets.size === scopeSetsMax) scopeSets.clear();
    scopeSets.set(name, set);
  }
  return set;
}

/**
 * Prepares the JSON of a token's record.
 * @throws RecordError when it is damaged: a failure of the store, never an invalid token.
 */
export function prepareToken(json: string): PreparedToken {
  const record = decodeTokenRecord(json);
  const scopesHeader = record.scopes.join(' ');
  const identity = identityFields(record, scopesHeader);
  return {
    id: record.id,
    version: record.version,
    record,
    tokenKey: keys.token(record.id),
    tenantKey: keys.tenant(record.tenant),
    secretDigest: digestOf(record.secretSha256) ?? noDigest,
    previousDigest: record.previousSha256 === null ? null : digestOf(record.previousSha256),
    scopes: scopeSet(record.scopes),
    scopesHeader,
    identityFields: identity,
    notAfterMs: record.expiresAt ?? 0,
    allowedIps: record.allowedIps,
    leasable: record.lease && record.mode === 'bearer',
    limitHeaders: prepareLimitHeaders(effectiveLimits(record), 'token'),
  };
}

/** @throws RecordError for a value that would end its line: it was not written by us. */
function identityFields(record: TokenRecord, scopes: string): string {
  const { subject } = record;
  const fields =
    `\r\nX-Tollkeeper-Token-Id: ${fieldValue('id', record.id)}` +
    `\r\nX-Tollkeeper-Tenant: ${fieldValue('tenant', record.tenant)}` +
    `\r\nX-Tollkeeper-Scopes: ${fieldValue('scopes', scopes)}`;
  return subject === null ? fields : `${fields}\r\nX-Tollkeeper-Subject: ${fieldValue('subject', subject)}`;
}

function fieldValue(field: string, value: string): string {
  if (!isFieldValue(value)) throw new RecordError('token', field, 'visible ASCII');
  return value;
}

/**
 * Prepares the JSON of a tenant's record.
 * @throws RecordError when it is damaged.
 */
export function prepareTenant(json: string): PreparedTenant {
  const record = decodeTenantRecord(json);
  return {
    slug: record.slug,
    version: record.version,
    record,
    key: keys.tenant(record.slug),
    limitHeaders: prepareLimitHeaders(tenantLimits(record), 'tenant'),
  };
}

export class RecordCache {
  readonly #tokens: LRUCache<string, PreparedToken>;
  readonly #tenants: LRUCache<string, PreparedTenant>;
  readonly #foreignIds: LRUCache<string, string>;

  /** `entriesMax` bounds tokens, tenants and foreign hashes each (`recordCacheMax`). */
  constructor(entriesMax: number) {
    this.#tokens = new LRUCache({ max: entriesMax });
    this.#tenants = new LRUCache({ max: entriesMax });
    this.#foreignIds = new LRUCache({ max: entriesMax });
  }

  token(id: string): PreparedToken | undefined {
    return this.#tokens.get(id);
  }

  /** What Redis said last counts, also when its version is lower: a backup may have been restored. */
  putToken(token: PreparedToken): void {
    this.#tokens.set(token.id, token);
  }

  tenant(slug: string): PreparedTenant | undefined {
    return this.#tenants.get(slug);
  }

  putTenant(tenant: PreparedTenant): void {
    this.#tenants.set(tenant.slug, tenant);
  }

  /** Id of the token imported with this SHA-256 (hex). */
  foreignId(sha256Hex: string): string | undefined {
    return this.#foreignIds.get(sha256Hex);
  }

  putForeignId(sha256Hex: string, id: string): void {
    this.#foreignIds.set(sha256Hex, id);
  }

  /** For a hash whose token turned out to be gone: it may have been imported again under another id. */
  dropForeignId(sha256Hex: string): void {
    this.#foreignIds.delete(sha256Hex);
  }

  dropToken(id: string): void {
    const known = this.#tokens.peek(id);
    if (known?.record.foreign === true) {
      this.#foreignIds.delete(known.record.secretSha256);
      if (known.record.previousSha256 !== null) this.#foreignIds.delete(known.record.previousSha256);
    }
    this.#tokens.delete(id);
  }

  dropTenant(slug: string): void {
    this.#tenants.delete(slug);
  }

  /** After Redis turned out to be another or an emptied one: versions there mean nothing here. */
  clear(): void {
    this.#tokens.clear();
    this.#tenants.clear();
    this.#foreignIds.clear();
  }
}

function digestOf(sha256Hex: string): Buffer | null {
  const digest = Buffer.from(sha256Hex, 'hex');
  return digest.length === 32 ? digest : null;
}
