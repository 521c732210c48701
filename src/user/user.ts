/** A user: who they are, their JSON in Redis, and what people may say about one. */
import { z } from 'zod';
import { isTenantSlug } from '../tenant/draft.js';
import { parseInput } from '../tenant/parse-input.js';
import { RecordReader } from '../tenant/record-reader.js';
import { DraftError } from '../tenant/refusal.js';

/** `operator`: everything. `owner`: one tenant. */
export const roles = ['operator', 'owner'] as const;
export type Role = (typeof roles)[number];

export interface UserRecord {
  readonly name: string;
  /** Random: a user who comes back under the same name is another one to sessions and keys. */
  readonly uid: string;
  readonly role: Role;
  /** Slug of an owner's tenant; null for an operator. */
  readonly tenant: string | null;
  readonly passwordHash: string;
  /** Random; another one ends every session. */
  readonly sessionEpoch: string;
  /** ms since 1970. */
  readonly createdAt: number;
  readonly passwordChangedAt: number;
  readonly version: number;
}

/** What is shown of a user. Times are RFC 3339. */
export interface UserView {
  readonly name: string;
  readonly role: Role;
  readonly tenant: string | null;
  readonly createdAt: string;
  readonly passwordChangedAt: string;
  readonly version: number;
}

const userNamePattern = /^[a-z0-9](?:[a-z0-9._@-]{0,61}[a-z0-9])?$/;

/** Whether a text can be a user's name; one that cannot never becomes part of a key name. */
export function isUserName(text: string): boolean {
  return userNamePattern.test(text);
}

export const passwordInput = z.string().min(12).max(256);
const name = z.string().regex(userNamePattern, 'must be 1 to 63 of a-z 0-9 . _ @ - and begin and end with a-z 0-9');
const tenant = z.string().refine(isTenantSlug, 'must be the slug of a tenant');

export const userDraftInput = z.strictObject({
  name,
  role: z.enum(roles),
  tenant: tenant.nullable().default(null),
  password: passwordInput,
});

export const userChangesInput = z.strictObject({
  role: z.enum(roles).optional(),
  tenant: tenant.nullable().optional(),
  password: passwordInput.optional(),
});

export type UserDraft = z.output<typeof userDraftInput>;
export type UserChanges = z.output<typeof userChangesInput>;

/** @throws DraftError that names every field at fault. */
export function parseUserDraft(input: unknown): UserDraft {
  const draft = parseInput(userDraftInput, input);
  requireTenantOfRole(draft);
  return draft;
}

/** @throws DraftError that names every field at fault. */
export function parseUserChanges(input: unknown): UserChanges {
  return parseInput(userChangesInput, input);
}

/** @throws DraftError for an owner without a tenant, or an operator with one. */
export function requireTenantOfRole({ role, tenant: slug }: Pick<UserRecord, 'role' | 'tenant'>): void {
  if (role === 'owner' && slug === null) {
    throw new DraftError([{ field: 'tenant', message: 'is required for an owner' }]);
  }
  if (role === 'operator' && slug !== null) {
    throw new DraftError([{ field: 'tenant', message: 'must be left out for an operator, who has all of them' }]);
  }
}

/** @throws RecordError when a known field has the wrong type. */
export function decodeUserRecord(json: string): UserRecord {
  const read = new RecordReader('user', json);
  return {
    name: read.text('name'),
    uid: read.text('uid'),
    role: read.oneOf('role', roles),
    tenant: read.textOrNull('tenant'),
    passwordHash: read.text('passwordHash'),
    sessionEpoch: read.text('sessionEpoch'),
    createdAt: read.integer('createdAt'),
    passwordChangedAt: read.integer('passwordChangedAt'),
    version: read.integer('version'),
  };
}

export function toUserView(record: UserRecord): UserView {
  return {
    name: record.name,
    role: record.role,
    tenant: record.tenant,
    createdAt: new Date(record.createdAt).toISOString(),
    passwordChangedAt: new Date(record.passwordChangedAt).toISOString(),
    version: record.version,
  };
}
