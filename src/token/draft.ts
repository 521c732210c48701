/** What a person may say about a token: checked here, once, for the CLI and the admin API alike. */
import { z } from 'zod';
import { isQuota, type Limit } from '../admission/limit.js';
import { isAddressBlock } from '../config/formats.js';
import { isUnicode, nameInput, notUnicode } from '../tenant/draft.js';
import {
  completeLimit,
  completeRateLimit,
  furtherLimitInput,
  limitFaults,
  quotaInput,
  rateLimitInput,
} from '../tenant/limit-draft.js';
import { parseInput } from '../tenant/parse-input.js';
import { DraftError, type FieldFault } from '../tenant/refusal.js';
import { readExpiry } from './expiry.js';
import { type TokenRecord, tokenModes } from './token.js';

const metadataEntriesMax = 20;
/** Grace of a rotated secret, at most: 30 days. */
const graceSecondsMax = 2_592_000;

const description = z
  .string()
  .max(500)
  .regex(/^(?:[\n\t]|\P{Cc})*$/u, 'must not hold control characters')
  .refine(isUnicode, notUnicode);
const scopes = z
  .array(
    z.string().regex(/^[a-z0-9][a-z0-9:._*-]{0,63}$/, 'must be 1 to 64 of a-z 0-9 : . _ * - and begin with a-z 0-9'),
  )
  .max(50);
const allowedIps = z
  .array(z.string().refine(isAddressBlock, 'must be an IP address or a CIDR such as 10.0.0.0/8'))
  .max(50);
// It is sent upstream as a header: nothing that could end the line, nothing that a backend may decode in its own way.
const subject = z.string().regex(/^[\x21-\x7e]{1,128}$/, 'must be 1 to 128 visible ASCII characters without spaces');
const metadataKey = z
  .string()
  .min(1)
  .max(64)
  .regex(/^\P{Cc}*$/u, 'must not hold control characters')
  .refine(isUnicode, notUnicode);
const metadataValue = z.string().max(256).refine(isUnicode, notUnicode);
const metadata = z
  .record(metadataKey, metadataValue)
  .refine(
    (entries) => Object.keys(entries).length <= metadataEntriesMax,
    `must have at most ${metadataEntriesMax} keys`,
  );
const furtherLimits = z.array(furtherLimitInput).max(8);
const sha256 = z.string().regex(/^[0-9a-fA-F]{64}$/, 'must be the 64 hex digits of a SHA-256');

const shared = {
  name: nameInput,
  description: description.default(''),
  scopes: scopes.default([]),
  rateLimit: rateLimitInput.default({}),
  limits: furtherLimits.default([]),
  quota: quotaInput.nullable().default(null),
  expiresAt: z.string().nullable().default(null),
  subject: subject.nullable().default(null),
  allowedIps: allowedIps.default([]),
  metadata: metadata.default({}),
  lease: z.boolean().default(false),
};

export const tokenDraftInput = z.strictObject({ ...shared, mode: z.enum(tokenModes).default('bearer') });

/** A token that another system issued, known by its SHA-256 alone. */
export const importDraftInput = z.strictObject({ ...shared, sha256 });

export const tokenChangesInput = z.strictObject({
  name: nameInput.optional(),
  description: description.optional(),
  scopes: scopes.optional(),
  rateLimit: rateLimitInput.optional(),
  limits: furtherLimits.optional(),
  quota: quotaInput.nullable().optional(),
  expiresAt: z.string().nullable().optional(),
  subject: subject.nullable().optional(),
  allowedIps: allowedIps.optional(),
  /** Merged into what is there; null takes a key away (RFC 7396). */
  metadata: z.record(metadataKey, metadataValue.nullable()).optional(),
  lease: z.boolean().optional(),
});

export const rotationInput = z.strictObject({ graceSeconds: z.int().min(0).max(graceSecondsMax).default(0) });

type DraftField =
  | 'name'
  | 'description'
  | 'mode'
  | 'scopes'
  | 'rateLimit'
  | 'limits'
  | 'quota'
  | 'expiresAt'
  | 'subject'
  | 'allowedIps'
  | 'metadata'
  | 'lease';

/** A token to be created: its settings, complete. */
export type TokenDraft = Pick<TokenRecord, DraftField>;

export interface ImportDraft extends TokenDraft {
  /** Lower-case hex. */
  readonly sha256: string;
}

/** Changes of a token; what is left out stays. `expiresAt` is read when they are parsed. */
export interface TokenChanges extends Omit<z.output<typeof tokenChangesInput>, 'expiresAt' | 'limits'> {
  readonly expiresAt?: number | null;
  readonly limits?: readonly Limit[];
}

/** @throws DraftError that names every field at fault. `nowMs` is what `expiresAt` is compared with. */
export function parseTokenDraft(input: unknown, nowMs: number): TokenDraft {
  return completeDraft(parseInput(tokenDraftInput, withoutPrototypeKey(input)), nowMs);
}

/** @throws DraftError that names every field at fault. */
export function parseImportDraft(input: unknown, nowMs: number): ImportDraft {
  const { sha256: digest, ...draft } = parseInput(importDraftInput, withoutPrototypeKey(input));
  return { ...completeDraft({ ...draft, mode: 'bearer' }, nowMs), sha256: digest.toLowerCase() };
}

/** @throws DraftError that names every field at fault. */
export function parseTokenChanges(input: unknown, nowMs: number): TokenChanges {
  const { expiresAt, limits, ...rest } = parseInput(tokenChangesInput, withoutPrototypeKey(input));
  return {
    ...rest,
    ...(expiresAt === undefined ? {} : { expiresAt: expiryOf(expiresAt, nowMs) }),
    ...(limits === undefined ? {} : { limits: limits.map(completeLimit) }),
  };
}

/** @throws DraftError. Answers the grace of the old secret in seconds, 0 by default. */
export function parseRotation(input: unknown): { graceSeconds: number } {
  return parseInput(rotationInput, input);
}

/**
 * The record with the changes made.
 * @throws DraftError when they contradict what is there.
 */
export function applyTokenChanges(record: TokenRecord, changes: TokenChanges): TokenRecord {
  return checked({
    ...record,
    name: changes.name ?? record.name,
    description: changes.description ?? record.description,
    scopes: changes.scopes === undefined ? record.scopes : distinct(changes.scopes),
    rateLimit:
      changes.rateLimit === undefined ? record.rateLimit : completeRateLimit(changes.rateLimit, record.rateLimit),
    limits: changes.limits ?? record.limits,
    quota: changes.quota === undefined ? record.quota : changes.quota,
    expiresAt: changes.expiresAt === undefined ? record.expiresAt : changes.expiresAt,
    subject: changes.subject === undefined ? record.subject : changes.subject,
    allowedIps: changes.allowedIps === undefined ? record.allowedIps : distinct(changes.allowedIps),
    metadata: mergeMetadata(record.metadata, changes.metadata ?? {}),
    lease: changes.lease ?? record.lease,
  });
}

function completeDraft(draft: z.output<typeof tokenDraftInput>, nowMs: number): TokenDraft {
  return checked({
    ...draft,
    scopes: distinct(draft.scopes),
    allowedIps: distinct(draft.allowedIps),
    rateLimit: completeRateLimit(draft.rateLimit),
    limits: draft.limits.map(completeLimit),
    expiresAt: expiryOf(draft.expiresAt, nowMs),
  });
}

function checked<T extends TokenDraft>(token: T): T {
  const faults: FieldFault[] = limitFaults(token);
  if (Object.keys(token.metadata).length > metadataEntriesMax) {
    faults.push({ field: 'metadata', message: `must have at most ${metadataEntriesMax} keys` });
  }
  faults.push(...leaseFaults(token));
  if (faults.length > 0) throw new DraftError(faults);
  return token;
}

/** What must be asked for one by one cannot be leased. */
function leaseFaults({ lease, mode, rateLimit, limits }: TokenDraft): FieldFault[] {
  if (!lease) return [];
  if (mode === 'hmac') return [{ field: 'lease', message: 'goes with the mode bearer only' }];
  const hasBucket = [rateLimit, ...limits].some((limit) => !isQuota(limit) && limit.algorithm === 'token-bucket');
  return hasBucket ? [{ field: 'lease', message: 'does not go with the algorithm token-bucket' }] : [];
}

function expiryOf(text: string | null, nowMs: number): number | null {
  if (text === null) return null;
  const time = readExpiry(text, nowMs);
  if (typeof time === 'string') throw new DraftError([{ field: 'expiresAt', message: time }]);
  return time;
}

function distinct(items: readonly string[]): string[] {
  return [...new Set(items)];
}

function mergeMetadata(
  before: Readonly<Record<string, string>>,
  changes: Readonly<Record<string, string | null>>,
): Record<string, string> {
  const merged = new Map<string, string | null>([...Object.entries(before), ...Object.entries(changes)]);
  return Object.fromEntries([...merged].filter((entry): entry is [string, string] => entry[1] !== null));
}

/** zod passes silently over a key `__proto__` of a record; what is asked for and not done must be refused. */
function withoutPrototypeKey(input: unknown): unknown {
  const entries = (input as { metadata?: unknown } | null | undefined)?.metadata;
  if (typeof entries === 'object' && entries !== null && Object.hasOwn(entries, '__proto__')) {
    throw new DraftError([{ field: 'metadata', message: 'must not have a key named __proto__' }]);
  }
  return input;
}
