/**
 * Everything that people can do, in one interface: plain values in, plain values out, in the shapes of the admin API.
 *
 * Whose operations they are was settled before: `Management.as(principal)` answers them for the Redis at hand, a client
 * of the admin API answers them over HTTP for the holder of its key. Inputs that a person wrote are `unknown`: they are
 * checked here, and a DraftError names each field at fault.
 *
 * Errors of every operation, besides those it names: NotFoundError (also for what an owner may not see),
 * ForbiddenError (the role), ConflictError, DraftError, StoreUnavailableError (nothing was changed), NotConfirmedError
 * (it may have been changed).
 */
import type { AuditFilter } from '../audit/reader.js';
import type { AuditVerification, ChainPoint } from '../audit/verify.js';
import type { Page } from '../tenant/repository.js';
import type { TenantView } from '../tenant/tenant.js';
import type { TokenView } from '../token/token.js';
import type { AdminKeyView } from '../user/admin-key.js';
import type { UserView } from '../user/user.js';
import type { AuditView } from './audit-view.js';
import type { Paged } from './paged.js';

/** A token by its id, and by its tenant where that is known: of another tenant it is not found then. */
export interface TokenName {
  readonly id: string;
  readonly tenant?: string;
}

export interface IssuedToken {
  readonly token: TokenView;
  /** The plaintext: known this once. */
  readonly secret: string;
}

export interface IssuedAdminKey {
  readonly key: AdminKeyView;
  /** The plaintext: known this once. */
  readonly secret: string;
}

/** What a change was made for. */
export interface ChangeOptions {
  /** VersionConflictError when the record has another version than this. */
  readonly ifVersion?: number | undefined;
}

/** Fields that a person wrote: not yet checked. */
export type TokenInput = Readonly<Record<string, unknown>>;

export interface Operations {
  /** Body of `POST /v1/tenants`. */
  createTenant(input: unknown): Promise<TenantView>;
  listTenants(page: Page): Promise<Paged<TenantView>>;
  showTenant(slug: string): Promise<TenantView>;
  /** Body of `PATCH /v1/tenants/{tenant}`. */
  updateTenant(slug: string, input: unknown, options?: ChangeOptions): Promise<TenantView>;
  /** `force`: its tokens too; without it ConflictError as long as it has some. */
  deleteTenant(slug: string, options: { readonly force: boolean }): Promise<void>;

  /** Body of `POST /v1/tenants/{tenant}/tokens`. */
  createToken(tenant: string, input: unknown): Promise<IssuedToken>;
  /** A token of another system by its SHA-256; body of `POST …/tokens/import`. */
  importToken(tenant: string, input: unknown): Promise<TokenView>;
  listTokens(tenant: string, page: Page): Promise<Paged<TokenView>>;
  showToken(name: TokenName): Promise<TokenView>;
  /** Body of `PATCH …/tokens/{id}`, or a function that makes one from the token as it is. */
  updateToken(
    name: TokenName,
    input: TokenInput | ((token: TokenView) => TokenInput),
    options?: ChangeOptions,
  ): Promise<TokenView>;
  /** Body of `POST …/tokens/{id}/rotate`: `{graceSeconds}`. */
  rotateToken(name: TokenName, input: unknown): Promise<IssuedToken>;
  revokeToken(name: TokenName): Promise<TokenView>;
  activateToken(name: TokenName): Promise<TokenView>;
  deactivateToken(name: TokenName): Promise<TokenView>;
  deleteToken(name: TokenName): Promise<void>;
  /** The HMAC secret once more. ConflictError for a Bearer token, of which only a hash is kept; ForbiddenError unless the tenant has `revealSecrets`. */
  revealToken(name: TokenName): Promise<IssuedToken>;

  /** For operators. Body of `POST /v1/users`. */
  createUser(input: unknown): Promise<UserView>;
  /** For operators. */
  listUsers(page: Page): Promise<Paged<UserView>>;
  /** For operators and the user. */
  showUser(name: string): Promise<UserView>;
  /** For operators. Body of `PATCH /v1/users/{user}`; ends the user's sessions. */
  updateUser(name: string, input: unknown, options?: ChangeOptions): Promise<UserView>;
  /** For operators. Sessions and personal keys of the user end. */
  removeUser(name: string): Promise<void>;
  /** For operators and the user, but not with a personal key. Body of `POST /v1/users/{user}/keys`. */
  createAdminKey(user: string, input: unknown): Promise<IssuedAdminKey>;
  listAdminKeys(user: string, page: Page): Promise<Paged<AdminKeyView>>;
  deleteAdminKey(user: string, id: string): Promise<void>;

  /** Newest first. An owner sees what concerns its tenant. */
  listAudit(filter: AuditFilter, page: Page): Promise<Paged<AuditView>>;
  /** For operators. `known`: the head of an earlier verification. */
  verifyAudit(known?: ChainPoint): Promise<AuditVerification>;
}
