/** A token: what it is, its JSON in Redis and what the CLI and the admin API show of it. */
import type { Limit, Quota, RateLimit } from '../admission/limit.js';
import { encodeChanged, RecordReader } from '../tenant/record-reader.js';

export const tokenModes = ['bearer', 'hmac'] as const;
type TokenMode = (typeof tokenModes)[number];

/** `revoked` is final; `active` and `inactive` are two positions of a switch. */
const tokenStates = ['active', 'inactive', 'revoked'] as const;
type TokenState = (typeof tokenStates)[number];

export interface TokenRecord {
  readonly id: string;
  /** Slug of its tenant; never changes. */
  readonly tenant: string;
  readonly name: string;
  readonly description: string;
  readonly mode: TokenMode;
  readonly state: TokenState;
  readonly scopes: readonly string[];
  readonly rateLimit: RateLimit;
  /** Further limits beside `rateLimit`. */
  readonly limits: readonly Limit[];
  readonly quota: Quota | null;
  /** ms since 1970; null: never. */
  readonly expiresAt: number | null;
  /** Whose data the token may see; sent upstream as it is. */
  readonly subject: string | null;
  /** Addresses and CIDRs; empty: from anywhere. */
  readonly allowedIps: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly createdAt: number;
  readonly rotatedAt: number | null;
  /** Raised by every change, 1 at creation. */
  readonly version: number;
  /** Lower-case hex; '' in mode hmac. */
  readonly secretSha256: string;
  /** The secret before the last rotation, as long as it is in grace (bearer). */
  readonly previousSha256: string | null;
  /** The previous secret is good before this time, ms since 1970. */
  readonly previousUntil: number | null;
  /** Mode hmac: the secret, encrypted under the master key. */
  readonly sealedSecret: string | null;
  /** Mode hmac: the secret before the last rotation, as long as it is in grace. */
  readonly previousSealedSecret: string | null;
  /** A secret in use was imported and has not our format: it is found by its SHA-256. */
  readonly foreign: boolean;
  /**
   * Mode hmac: signatures with an earlier timestamp are refused, ms since 1970. Set when the record was restored from a
   * backup: which signatures were used before is known to nobody. Null: all that are in time are looked at.
   */
  readonly signaturesFrom: number | null;
  /** Mode bearer: units may be charged in advance while it is very hot (admission/leases.ts). */
  readonly lease: boolean;
}

/** What the CLI prints and the admin API answers: never a secret nor its hash. Times are RFC 3339. */
export interface TokenView {
  readonly id: string;
  readonly tenant: string;
  readonly name: string;
  readonly description: string;
  readonly mode: TokenMode;
  readonly state: TokenState;
  readonly active: boolean;
  readonly scopes: readonly string[];
  readonly rateLimit: RateLimit;
  readonly limits: readonly Limit[];
  readonly quota: Quota | null;
  readonly expiresAt: string | null;
  readonly subject: string | null;
  readonly allowedIps: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly lease: boolean;
  readonly foreign: boolean;
  readonly createdAt: string;
  readonly rotatedAt: string | null;
  /** End of the grace of the previous secret. */
  readonly previousUntil: string | null;
  readonly lastUsedAt: string | null;
  readonly version: number;
}

/**
 * Reads the JSON of a token.
 * @throws RecordError when a known field has the wrong type.
 */
export function decodeTokenRecord(json: string): TokenRecord {
  const read = new RecordReader('token', json);
  return {
    id: read.text('id'),
    tenant: read.text('tenant'),
    name: read.text('name'),
    description: read.textOrNull('description') ?? '',
    mode: read.oneOf('mode', tokenModes),
    state: read.oneOf('state', tokenStates),
    scopes: read.texts('scopes'),
    rateLimit: read.rateLimit('rateLimit'),
    limits: read.limits('limits'),
    quota: read.quotaOrNull('quota'),
    expiresAt: read.integerOrNull('expiresAt'),
    subject: read.textOrNull('subject'),
    allowedIps: read.texts('allowedIps'),
    metadata: read.textMapOrEmpty('metadata'),
    createdAt: read.integer('createdAt'),
    rotatedAt: read.integerOrNull('rotatedAt'),
    version: read.integer('version'),
    secretSha256: read.text('secretSha256'),
    previousSha256: read.textOrNull('previousSha256'),
    previousUntil: read.integerOrNull('previousUntil'),
    sealedSecret: read.textOrNull('sealedSecret'),
    previousSealedSecret: read.textOrNull('previousSealedSecret'),
    foreign: read.flagOrFalse('foreign'),
    signaturesFrom: read.integerOrNull('signaturesFrom'),
    lease: read.flagOrFalse('lease'),
  };
}

/**
 * The JSON to write for a record, over `previousJson` where there was one (see {@link encodeChanged}). What says nothing
 * (null, false, '', {}) is left out: half of a token's bytes would be that. Lists are written even when they are empty,
 * because without `allowedIps` or `limits` a record would allow more, and so is the digest, which is '' in mode hmac.
 */
export function encodeTokenRecord(record: TokenRecord, previousJson = '{}'): string {
  const said = JSON.parse(encodeChanged(previousJson, record)) as Record<string, unknown>;
  for (const field of Object.keys(record)) {
    if (saysNothing(said[field]) && field !== 'secretSha256') delete said[field];
  }
  return JSON.stringify(said);
}

function saysNothing(value: unknown): boolean {
  if (value === null || value === false || value === '') return true;
  return typeof value === 'object' && !Array.isArray(value) && Object.keys(value).length === 0;
}

/** The limits that a call is checked against, in the order admission reports them. */
export function effectiveLimits(record: Pick<TokenRecord, 'rateLimit' | 'limits' | 'quota'>): readonly Limit[] {
  return record.quota === null
    ? [record.rateLimit, ...record.limits]
    : [record.rateLimit, ...record.limits, record.quota];
}

/** `lastUsedAt` in ms since 1970, null when the token has not been used or nobody asked. */
export function toTokenView(record: TokenRecord, lastUsedAt: number | null): TokenView {
  return {
    id: record.id,
    tenant: record.tenant,
    name: record.name,
    description: record.description,
    mode: record.mode,
    state: record.state,
    active: record.state === 'active',
    scopes: record.scopes,
    rateLimit: record.rateLimit,
    limits: record.limits,
    quota: record.quota,
    expiresAt: timeText(record.expiresAt),
    subject: record.subject,
    allowedIps: record.allowedIps,
    metadata: record.metadata,
    lease: record.lease,
    foreign: record.foreign,
    createdAt: new Date(record.createdAt).toISOString(),
    rotatedAt: timeText(record.rotatedAt),
    previousUntil: timeText(record.previousUntil),
    lastUsedAt: timeText(lastUsedAt),
    version: record.version,
  };
}

function timeText(timeMs: number | null): string | null {
  return timeMs === null ? null : new Date(timeMs).toISOString();
}
