/** The operations of whoever holds an admin key, over the admin API. Answers and refusals are those of the Redis itself. */
import type { AuditFilter } from '../audit/reader.js';
import type { AuditVerification, ChainPoint } from '../audit/verify.js';
import { OperatorError } from '../core/failure.js';
import type { AuditView } from '../management/audit-view.js';
import type { ChangeOptions, IssuedAdminKey, IssuedToken, Operations, TokenName } from '../management/operations.js';
import type { Paged } from '../management/paged.js';
import type { Page } from '../tenant/repository.js';
import type { TenantView } from '../tenant/tenant.js';
import type { TokenView } from '../token/token.js';
import type { AdminKeyView } from '../user/admin-key.js';
import type { UserView } from '../user/user.js';
import { AdminApiError, AdminClient, type AdminRequest } from './admin-client.js';
import type { CliContext } from './context.js';
import type { AdminServer } from './server-option.js';

/** How often a change is made again because somebody else changed the token first. */
const attemptsMax = 20;

export class RemoteOperations implements Operations {
  readonly #client: AdminClient;

  constructor(server: AdminServer, context: CliContext) {
    this.#client = new AdminClient(server, context);
  }

  // ---- tenants

  createTenant(input: unknown): Promise<TenantView> {
    return this.#ask({ method: 'POST', path: ['tenants'], body: input });
  }

  listTenants(page: Page): Promise<Paged<TenantView>> {
    return this.#ask({ method: 'GET', path: ['tenants'], query: queryOf(page) });
  }

  showTenant(slug: string): Promise<TenantView> {
    return this.#ask({ method: 'GET', path: ['tenants', slug] });
  }

  updateTenant(slug: string, input: unknown, { ifVersion }: ChangeOptions = {}): Promise<TenantView> {
    return this.#ask({ method: 'PATCH', path: ['tenants', slug], body: input, ifVersion });
  }

  async deleteTenant(slug: string, { force }: { readonly force: boolean }): Promise<void> {
    await this.#client.send({ method: 'DELETE', path: ['tenants', slug], query: { force: String(force) } });
  }

  // ---- tokens

  createToken(tenant: string, input: unknown): Promise<IssuedToken> {
    return this.#ask({ method: 'POST', path: ['tenants', tenant, 'tokens'], body: input });
  }

  importToken(tenant: string, input: unknown): Promise<TokenView> {
    return this.#ask({ method: 'POST', path: ['tenants', tenant, 'tokens', 'import'], body: input });
  }

  listTokens(tenant: string, page: Page): Promise<Paged<TokenView>> {
    return this.#ask({ method: 'GET', path: ['tenants', tenant, 'tokens'], query: queryOf(page) });
  }

  showToken({ id, tenant }: TokenName): Promise<TokenView> {
    const path = tenant === undefined ? ['tokens', id] : ['tenants', tenant, 'tokens', id];
    return this.#ask({ method: 'GET', path });
  }

  async updateToken(name: TokenName, input: unknown, { ifVersion }: ChangeOptions = {}): Promise<TokenView> {
    if (typeof input !== 'function') {
      return this.#ask({ method: 'PATCH', path: await this.#pathOf(name), body: input, ifVersion });
    }
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const current = await this.showToken(name);
      const change = {
        method: 'PATCH',
        path: ['tenants', current.tenant, 'tokens', current.id],
        body: (input as (token: TokenView) => unknown)(current),
        ifVersion: ifVersion ?? current.version,
      } as const;
      try {
        return await this.#ask(change);
      } catch (error) {
        if (!(error instanceof AdminApiError) || error.status !== 412 || ifVersion !== undefined) throw error;
      }
    }
    throw new OperatorError('The token is being changed by too many at once: try again.');
  }

  async rotateToken(name: TokenName, input: unknown): Promise<IssuedToken> {
    return this.#ask({ method: 'POST', path: [...(await this.#pathOf(name)), 'rotate'], body: input });
  }

  revokeToken(name: TokenName): Promise<TokenView> {
    return this.#post(name, 'revoke');
  }

  activateToken(name: TokenName): Promise<TokenView> {
    return this.#post(name, 'activate');
  }

  deactivateToken(name: TokenName): Promise<TokenView> {
    return this.#post(name, 'deactivate');
  }

  async deleteToken(name: TokenName): Promise<void> {
    await this.#client.send({ method: 'DELETE', path: await this.#pathOf(name) });
  }

  revealToken(name: TokenName): Promise<IssuedToken> {
    return this.#post(name, 'reveal');
  }

  // ---- users

  createUser(input: unknown): Promise<UserView> {
    return this.#ask({ method: 'POST', path: ['users'], body: input });
  }

  listUsers(page: Page): Promise<Paged<UserView>> {
    return this.#ask({ method: 'GET', path: ['users'], query: queryOf(page) });
  }

  showUser(name: string): Promise<UserView> {
    return this.#ask({ method: 'GET', path: ['users', name] });
  }

  updateUser(name: string, input: unknown, { ifVersion }: ChangeOptions = {}): Promise<UserView> {
    return this.#ask({ method: 'PATCH', path: ['users', name], body: input, ifVersion });
  }

  async removeUser(name: string): Promise<void> {
    await this.#client.send({ method: 'DELETE', path: ['users', name] });
  }

  createAdminKey(user: string, input: unknown): Promise<IssuedAdminKey> {
    return this.#ask({ method: 'POST', path: ['users', user, 'keys'], body: input });
  }

  listAdminKeys(user: string, page: Page): Promise<Paged<AdminKeyView>> {
    return this.#ask({ method: 'GET', path: ['users', user, 'keys'], query: queryOf(page) });
  }

  async deleteAdminKey(user: string, id: string): Promise<void> {
    await this.#client.send({ method: 'DELETE', path: ['users', user, 'keys', id] });
  }

  // ---- audit

  listAudit({ fromMs, toMs, ...filter }: AuditFilter, page: Page): Promise<Paged<AuditView>> {
    const query = { ...filter, from: timeText(fromMs), to: timeText(toMs), ...queryOf(page) };
    return this.#ask({ method: 'GET', path: ['audit'], query });
  }

  verifyAudit(known?: ChainPoint): Promise<AuditVerification> {
    return this.#ask({ method: 'POST', path: ['audit', 'verify'], body: known === undefined ? {} : { head: known } });
  }

  // ----

  async #post<T>(name: TokenName, verb: string): Promise<T> {
    return this.#ask({ method: 'POST', path: [...(await this.#pathOf(name)), verb] });
  }

  async #pathOf(name: TokenName): Promise<readonly string[]> {
    const tenant = name.tenant ?? (await this.showToken(name)).tenant;
    return ['tenants', tenant, 'tokens', name.id];
  }

  /** The shapes of the answers are those of the API; a test compares them with what the Redis itself gives. */
  async #ask<T>(request: AdminRequest): Promise<T> {
    return (await this.#client.send(request)) as T;
  }
}

function queryOf({ page, perPage }: Page): Readonly<Record<string, number>> {
  return { page, per_page: perPage };
}

function timeText(timeMs: number | undefined): string | undefined {
  return timeMs === undefined ? undefined : new Date(timeMs).toISOString();
}
