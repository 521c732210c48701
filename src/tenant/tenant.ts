/** A tenant (a store): what it is, its JSON in Redis and what the CLI and the admin API show of it. */
import type { Limit, RateLimit } from '../admission/limit.js';
import { RecordReader } from './record-reader.js';

const tenantStates = ['active', 'deleting'] as const;
type TenantState = (typeof tenantStates)[number];

/** Tokens of a tenant unless it is told otherwise. */
export const maxTokensDefault = 25;

export interface TenantRecord {
  readonly slug: string;
  readonly name: string;
  readonly state: TenantState;
  readonly maxTokens: number;
  /** Refuse its tokens on plain HTTP. */
  readonly requireHttps: boolean;
  /** HMAC secrets may be shown again to who manages the tenant. */
  readonly revealSecrets: boolean;
  /** Shared by all its tokens; null: none. */
  readonly rateLimit: RateLimit | null;
  /** ms since 1970. */
  readonly createdAt: number;
  /** Raised by every change. A new tenant starts above any that had its slug before, so rarely at 1. */
  readonly version: number;
}

/** What the CLI prints and the admin API answers. */
export interface TenantView {
  readonly slug: string;
  readonly name: string;
  readonly state: TenantState;
  readonly maxTokens: number;
  readonly requireHttps: boolean;
  readonly revealSecrets: boolean;
  readonly rateLimit: RateLimit | null;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly version: number;
}

/**
 * Reads the JSON of a tenant.
 * @throws RecordError when a known field has the wrong type.
 */
export function decodeTenantRecord(json: string): TenantRecord {
  const read = new RecordReader('tenant', json);
  return {
    slug: read.text('slug'),
    name: read.text('name'),
    state: read.oneOf('state', tenantStates),
    maxTokens: read.integer('maxTokens'),
    requireHttps: read.flag('requireHttps'),
    revealSecrets: read.flagOrFalse('revealSecrets'),
    rateLimit: read.rateLimitOrNull('rateLimit'),
    createdAt: read.integer('createdAt'),
    version: read.integer('version'),
  };
}

/** The limits that a call of any of its tokens is checked against, in the order admission reports them. */
export function tenantLimits(record: TenantRecord): readonly Limit[] {
  return record.rateLimit === null ? [] : [record.rateLimit];
}

export function toTenantView(record: TenantRecord): TenantView {
  return {
    slug: record.slug,
    name: record.name,
    state: record.state,
    maxTokens: record.maxTokens,
    requireHttps: record.requireHttps,
    revealSecrets: record.revealSecrets,
    rateLimit: record.rateLimit,
    createdAt: new Date(record.createdAt).toISOString(),
    version: record.version,
  };
}
