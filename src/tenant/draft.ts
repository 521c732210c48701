/** What a person may say about a tenant: checked here, once, for the CLI and the admin API alike. */
import { z } from 'zod';
import { completeRateLimit, limitFaults, rateLimitInput } from './limit-draft.js';
import { parseInput } from './parse-input.js';
import { DraftError } from './refusal.js';
import { maxTokensDefault, type TenantRecord } from './tenant.js';

const slugPattern = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** Half of a surrogate pair is no character (RFC 8259, 8.2): other readers of the JSON would refuse all of it. */
export function isUnicode(text: string): boolean {
  return text.isWellFormed();
}

/** What is said of one that {@link isUnicode} is false for. */
export const notUnicode = 'must be Unicode without halves of surrogate pairs';

/** One line of text without control characters, 1 to 100 characters. */
export const nameInput = z
  .string()
  .trim()
  .min(1)
  .max(100)
  .regex(/^\P{Cc}*$/u, 'must not hold control characters')
  .refine(isUnicode, notUnicode);

const maxTokens = z.int().min(0).max(10_000_000);

export const tenantDraftInput = z.strictObject({
  slug: z.string().regex(slugPattern, 'must be 1 to 63 lower-case letters, digits and inner dashes'),
  name: nameInput,
  maxTokens: maxTokens.default(maxTokensDefault),
  requireHttps: z.boolean().default(false),
  revealSecrets: z.boolean().default(false),
  rateLimit: rateLimitInput.nullable().default(null),
});

export const tenantChangesInput = z.strictObject({
  name: nameInput.optional(),
  maxTokens: maxTokens.optional(),
  requireHttps: z.boolean().optional(),
  revealSecrets: z.boolean().optional(),
  rateLimit: rateLimitInput.nullable().optional(),
});

/** A tenant to be created. */
export type TenantDraft = Pick<
  TenantRecord,
  'slug' | 'name' | 'maxTokens' | 'requireHttps' | 'revealSecrets' | 'rateLimit'
>;
/** Changes of a tenant; what is left out stays, `rateLimit: null` takes the limit away. */
export type TenantChanges = z.output<typeof tenantChangesInput>;

/** Whether a text can be a tenant's slug (a DNS label); one that cannot never becomes part of a key name. */
export function isTenantSlug(text: string): boolean {
  return text.length <= 63 && slugPattern.test(text);
}

/** @throws DraftError that names every field at fault. */
export function parseTenantDraft(input: unknown): TenantDraft {
  const draft = parseInput(tenantDraftInput, input);
  return checked({ ...draft, rateLimit: draft.rateLimit === null ? null : completeRateLimit(draft.rateLimit) });
}

/** @throws DraftError that names every field at fault. */
export function parseTenantChanges(input: unknown): TenantChanges {
  return parseInput(tenantChangesInput, input);
}

/**
 * The record with the changes made.
 * @throws DraftError when they contradict what is there.
 */
export function applyTenantChanges(record: TenantRecord, changes: TenantChanges): TenantRecord {
  const { rateLimit } = changes;
  return checked({
    ...record,
    name: changes.name ?? record.name,
    maxTokens: changes.maxTokens ?? record.maxTokens,
    requireHttps: changes.requireHttps ?? record.requireHttps,
    revealSecrets: changes.revealSecrets ?? record.revealSecrets,
    rateLimit:
      rateLimit === undefined
        ? record.rateLimit
        : rateLimit && completeRateLimit(rateLimit, record.rateLimit ?? undefined),
  });
}

function checked<T extends Pick<TenantRecord, 'rateLimit'>>(tenant: T): T {
  const faults = limitFaults({ rateLimit: tenant.rateLimit, limits: [], quota: null });
  if (faults.length > 0) throw new DraftError(faults);
  return tenant;
}
