/**
 * The one way to every change of tenants and tokens: checks what the principal may do, writes the audit records, and
 * leaves the change itself to the repositories. The commands and the admin API both come through here.
 */
import { AuditLog } from '../audit/audit-log.js';
import { type AuditFilter, readAudit } from '../audit/reader.js';
import type { AuditRecord } from '../audit/record.js';
import { type AuditVerification, type ChainPoint, verifyAudit } from '../audit/verify.js';
import { type MasterKeys, openSecret, sealSecret } from '../credential/sealed-secret.js';
import { OperatorError } from '../core/failure.js';
import type { Store } from '../redis/store.js';
import { parseTenantChanges, parseTenantDraft } from '../tenant/draft.js';
import { ConflictError, ForbiddenError, NotConfiguredError, requireVersion } from '../tenant/refusal.js';
import { type Page, TenantRepository } from '../tenant/repository.js';
import { type TenantView, toTenantView } from '../tenant/tenant.js';
import { parseImportDraft, parseRotation, parseTokenChanges, parseTokenDraft } from '../token/draft.js';
import { drawTokenId } from '../token/format.js';
import { type IssuedSecret, TokenRepository } from '../token/repository.js';
import { removeTenant } from '../token/tenant-removal.js';
import { type TokenRecord, type TokenView, toTokenView } from '../token/token.js';
import { AdminKeys } from '../user/admin-key.js';
import type { PasswordCost } from '../user/password.js';
import { UserRepository } from '../user/repository.js';
import { UserOperations } from './user-operations.js';
import { type AuditedChange, audited, recordable } from './audited.js';
import { type AuditView, auditView } from './audit-view.js';
import type { ChangeOptions, IssuedToken, Operations, TokenInput, TokenName } from './operations.js';
import { type Paged, paged, pagedOf } from './paged.js';
import { type Principal, requireOperator, requireTenantAccess } from './principal.js';

export interface ManagementOptions {
  readonly tokenPrefix: string;
  /** Undefined: HMAC tokens can be neither made nor revealed. */
  readonly masterKeys: MasterKeys | undefined;
  readonly auditMaxEntries: number;
  /** When the tokens of a tenant were last used, ms since 1970, in the order of the ids; null: never, or not known. */
  readonly lastUsed: (tenant: string, ids: readonly string[]) => Promise<readonly (number | null)[]>;
  /** Of passwords set from now on; without it the default. */
  readonly passwordCost?: PasswordCost;
  /** Hears of every audit record. */
  readonly recorded?: (record: AuditRecord) => void;
  /** Hears of a change that was made and whose outcome is not in the audit log. */
  readonly outcomeLost: (change: AuditedChange, error: unknown) => void;
  /** ms since 1970. */
  readonly now?: () => number;
}

export class Management {
  readonly store: Store;
  readonly options: ManagementOptions;
  readonly tenants: TenantRepository;
  readonly tokens: TokenRepository;
  readonly users: UserRepository;
  readonly adminKeys: AdminKeys;
  readonly audit: AuditLog;

  /** @throws OperatorError when the token prefix is not allowed. */
  constructor(store: Store, options: ManagementOptions) {
    const { tokenPrefix, masterKeys, now, auditMaxEntries, recorded } = options;
    this.store = store;
    this.options = options;
    this.tenants = new TenantRepository(store, now);
    this.tokens = new TokenRepository(store, {
      tokenPrefix,
      sealSecret: masterKeys && ((plaintext, id) => sealSecret(plaintext, id, masterKeys)),
      ...(now === undefined ? {} : { now }),
    });
    this.users = new UserRepository(store, now, options.passwordCost);
    this.adminKeys = new AdminKeys(store, now);
    this.audit = new AuditLog(store, {
      entriesMax: auditMaxEntries,
      ...(now === undefined ? {} : { now }),
      ...(recorded === undefined ? {} : { appended: recorded }),
    });
  }

  /** Everything this principal can do. */
  as(principal: Principal): Operations {
    return new PrincipalOperations(this, principal);
  }

  /**
   * Makes a change of another kind between its audit records (moving secrets to another master key, restoring a backup).
   * @throws what `perform` throws; StoreUnavailableError when the attempt cannot be recorded.
   */
  audited<T>(principal: Principal, change: AuditedChange, perform: () => Promise<T>): Promise<T> {
    return audited(this.audit, principal, change, perform, this.options.outcomeLost);
  }
}

class PrincipalOperations extends UserOperations implements Operations {
  readonly #management: Management;
  readonly #principal: Principal;

  constructor(management: Management, principal: Principal) {
    super(management, principal);
    this.#management = management;
    this.#principal = principal;
  }

  // ---- tenants

  async createTenant(input: unknown): Promise<TenantView> {
    requireOperator(this.#principal);
    const draft = parseTenantDraft(input);
    const change = { ...tenantChange('create', draft.slug), details: recordable({ ...draft }) };
    return toTenantView(await this.#audited(change, () => this.#management.tenants.create(draft)));
  }

  async listTenants(page: Page): Promise<Paged<TenantView>> {
    const { role, tenant } = this.#principal;
    if (role === 'operator') return pagedOf(await this.#management.tenants.list(page), page, toTenantView);
    const own = await this.#management.tenants.find(tenant ?? '');
    const all = own === null ? [] : [toTenantView(own)];
    return paged(page.page === 1 ? all : [], all.length, page);
  }

  async showTenant(slug: string): Promise<TenantView> {
    requireTenantAccess(this.#principal, slug);
    return toTenantView(await this.#management.tenants.get(slug));
  }

  async updateTenant(slug: string, input: unknown, { ifVersion }: ChangeOptions = {}): Promise<TenantView> {
    requireTenantAccess(this.#principal, slug);
    requireOperator(this.#principal);
    const changes = parseTenantChanges(input);
    const change = { ...tenantChange('update', slug), details: recordable(changes) };
    const record = await this.#audited(change, () =>
      this.#management.tenants.update(slug, ({ version }) => {
        requireVersion(`Tenant ${slug}`, version, ifVersion);
        return changes;
      }),
    );
    return toTenantView(record);
  }

  async deleteTenant(slug: string, { force }: { readonly force: boolean }): Promise<void> {
    requireTenantAccess(this.#principal, slug);
    requireOperator(this.#principal);
    const { tenants, tokens, users } = this.#management;
    const change = { ...tenantChange('delete', slug), details: { force } };
    await this.#audited(change, async () => {
      // Whoever gets the slug later must not meet the owners of today.
      const owners = await users.ownersOf(slug);
      if (owners.length > 0 && !force) {
        throw new ConflictError(
          `Tenant ${slug} still has ${owners.length === 1 ? 'the owner' : 'the owners'} ${owners.join(', ')}: remove ` +
            'them first, or delete all of it with force.',
        );
      }
      for (const owner of owners) await users.remove(owner);
      await removeTenant(tenants, tokens, slug, { force });
    });
  }

  // ---- tokens

  async createToken(tenant: string, input: unknown): Promise<IssuedToken> {
    requireTenantAccess(this.#principal, tenant);
    const draft = parseTokenDraft(input, this.#nowMs());
    const id = drawTokenId(tenant);
    const change = { ...tokenChange('create', tenant, id), details: recordable({ ...draft }) };
    return issued(await this.#audited(change, () => this.#management.tokens.create(tenant, draft, id)));
  }

  async importToken(tenant: string, input: unknown): Promise<TokenView> {
    requireTenantAccess(this.#principal, tenant);
    const draft = parseImportDraft(input, this.#nowMs());
    const id = drawTokenId(tenant);
    const change = { ...tokenChange('import', tenant, id), details: recordable({ ...draft }) };
    return toTokenView(await this.#audited(change, () => this.#management.tokens.import(tenant, draft, id)), null);
  }

  async listTokens(tenant: string, page: Page): Promise<Paged<TokenView>> {
    requireTenantAccess(this.#principal, tenant);
    await this.#management.tenants.get(tenant);
    const { records, total } = await this.#management.tokens.list(tenant, page);
    return paged(await this.#views(tenant, records), total, page);
  }

  async showToken(name: TokenName): Promise<TokenView> {
    return this.#view(await this.#token(name));
  }

  async updateToken(
    name: TokenName,
    input: TokenInput | ((token: TokenView) => TokenInput),
    { ifVersion }: ChangeOptions = {},
  ): Promise<TokenView> {
    const before = await this.#token(name);
    const nowMs = this.#nowMs();
    const inputOf = (record: TokenRecord): TokenInput =>
      typeof input === 'function' ? input(toTokenView(record, null)) : input;
    // Refused before it is attempted where it can be; the record may still be another one when it is written.
    const details = recordable({ ...parseTokenChanges(inputOf(before), nowMs) });
    const record = await this.#change('update', before, details, () =>
      this.#management.tokens.update(name.id, (current) => {
        requireVersion(`Token ${name.id}`, current.version, ifVersion);
        return parseTokenChanges(inputOf(current), nowMs);
      }),
    );
    return this.#view(record);
  }

  async rotateToken(name: TokenName, input: unknown): Promise<IssuedToken> {
    const rotation = parseRotation(input);
    const before = await this.#token(name);
    const { tokens } = this.#management;
    return issued(await this.#change('rotate', before, { ...rotation }, () => tokens.rotate(name.id, rotation)));
  }

  revokeToken(name: TokenName): Promise<TokenView> {
    return this.#switch(name, 'revoke');
  }

  activateToken(name: TokenName): Promise<TokenView> {
    return this.#switch(name, 'activate');
  }

  deactivateToken(name: TokenName): Promise<TokenView> {
    return this.#switch(name, 'deactivate');
  }

  async deleteToken(name: TokenName): Promise<void> {
    const record = await this.#token(name);
    await this.#change('delete', record, { name: record.name }, () => this.#management.tokens.delete(name.id));
  }

  async revealToken(name: TokenName): Promise<IssuedToken> {
    const record = await this.#token(name);
    const { masterKeys } = this.#management.options;
    if (record.mode === 'bearer') {
      throw new ConflictError(
        `Token ${name.id} is a Bearer token, of which only a hash is kept: it can never be shown again. Rotate it.`,
      );
    }
    if (!(await this.#management.tenants.get(record.tenant)).revealSecrets) {
      throw new ForbiddenError(
        `Tenant ${record.tenant} does not let secrets be shown again: an operator can set revealSecrets, or rotate the token.`,
      );
    }
    if (masterKeys === undefined) {
      throw new NotConfiguredError('There is no master key to open the secret with: set TOLLKEEPER_MASTER_KEY.');
    }
    return this.#change('reveal', record, {}, async () => {
      // Read again: a rotation may have come in between, and the old secret must not be shown for the new one.
      const current = await this.#token(name);
      const opened = openSecret(current.sealedSecret ?? '', name.id, masterKeys);
      if (opened.secret === undefined) throw new OperatorError(opened.message);
      return { token: await this.#view(current), secret: opened.secret };
    });
  }

  // ---- audit

  async listAudit(filter: AuditFilter, page: Page): Promise<Paged<AuditView>> {
    const { role, tenant } = this.#principal;
    const { store } = this.#management;
    // An owner of no tenant sees nothing: no record has this one.
    const own = role === 'owner' ? { tenant: tenant ?? '-' } : {};
    if (role === 'owner' && filter.tenant !== undefined) requireTenantAccess(this.#principal, filter.tenant);
    const listing = await readAudit(store, { ...filter, ...own }, page.page, page.perPage);
    return pagedOf(listing, page, (record) => auditView(record, this.#principal));
  }

  async verifyAudit(known?: ChainPoint): Promise<AuditVerification> {
    requireOperator(this.#principal);
    return verifyAudit(this.#management.store, known);
  }

  // ----

  /** @throws NotFoundError also for a token of a tenant that the principal may not see, or of another than named. */
  async #token({ id, tenant }: TokenName): Promise<TokenRecord> {
    const { tokens } = this.#management;
    if (tenant !== undefined) requireTenantAccess(this.#principal, tenant);
    const within = this.#principal.role === 'owner' ? (this.#principal.tenant ?? '') : tenant;
    return within === undefined ? tokens.get(id) : tokens.getIn(within, id);
  }

  async #switch(name: TokenName, verb: 'revoke' | 'activate' | 'deactivate'): Promise<TokenView> {
    const before = await this.#token(name);
    return this.#view(await this.#change(verb, before, {}, () => this.#management.tokens[verb](name.id)));
  }

  #change<T>(
    verb: string,
    { tenant, id }: TokenRecord,
    details: Readonly<Record<string, unknown>>,
    perform: () => Promise<T>,
  ): Promise<T> {
    return this.#audited({ ...tokenChange(verb, tenant, id), details }, perform);
  }

  #audited<T>(change: AuditedChange, perform: () => Promise<T>): Promise<T> {
    return this.#management.audited(this.#principal, change, perform);
  }

  async #view(record: TokenRecord): Promise<TokenView> {
    const [view] = await this.#views(record.tenant, [record]);
    return view as TokenView;
  }

  async #views(tenant: string, records: readonly TokenRecord[]): Promise<TokenView[]> {
    const lastUsed = await this.#management.options.lastUsed(
      tenant,
      records.map(({ id }) => id),
    );
    return records.map((record, index) => toTokenView(record, lastUsed[index] ?? null));
  }

  #nowMs(): number {
    return (this.#management.options.now ?? Date.now)();
  }
}

function issued({ record, secret }: IssuedSecret): IssuedToken {
  return { token: toTokenView(record, null), secret };
}

function tenantChange(verb: string, slug: string): AuditedChange {
  return { action: `tenant.${verb}`, tenant: slug, target: `tenant:${slug}` };
}

function tokenChange(verb: string, tenant: string, id: string): AuditedChange {
  return { action: `token.${verb}`, tenant, target: `token:${id}` };
}
