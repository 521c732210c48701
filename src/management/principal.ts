/** Who acts, as it was established before any operation is asked for. */
import type { ActorKind } from '../audit/record.js';
import { isTenantSlug } from '../tenant/draft.js';
import { ForbiddenError, NotFoundError } from '../tenant/refusal.js';
import type { Role } from '../user/user.js';

export interface Principal {
  readonly kind: ActorKind;
  /** Name of the user, of the operating system's user for a command; `admin-key` for the key of the configuration. */
  readonly name: string;
  readonly role: Role;
  /** Slug of the owner's tenant; null for an operator. */
  readonly tenant: string | null;
  /** Address of the client in canonical form; '' for a command. */
  readonly address: string;
}

/**
 * An owner sees its own tenant; any other one, whether it exists or not, is the same to it: not there, and nothing was
 * looked up.
 * @throws NotFoundError.
 */
export function requireTenantAccess(principal: Principal, tenant: string): void {
  if (!mayAccessTenant(principal, tenant)) throw new NotFoundError('There is no such tenant.');
}

/** Whether a tenant of this slug, if there is one, is there for the principal. */
export function mayAccessTenant(principal: Principal, tenant: string): boolean {
  // What cannot be a slug never becomes part of an audit record either.
  return isTenantSlug(tenant) && (principal.role === 'operator' || principal.tenant === tenant);
}

/** @throws ForbiddenError for an owner. */
export function requireOperator(principal: Principal): void {
  if (principal.role === 'operator') return;
  throw new ForbiddenError('This takes the role operator: ask one to do it.');
}

/**
 * Only operators and the users themselves see a user; to anybody else there is none of that name.
 * @throws NotFoundError.
 */
export function requireUserAccess(principal: Principal, user: string): void {
  if (principal.role === 'operator' || isUser(principal, user)) return;
  throw new NotFoundError('There is no such user.');
}

/** Whether the principal is this user. */
function isUser({ kind, name }: Principal, user: string): boolean {
  return (kind === 'session' || kind === 'personal-key') && name === user;
}
