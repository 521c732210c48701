/** What a principal can do with users and their personal admin keys. */
import { ForbiddenError, requireVersion } from '../tenant/refusal.js';
import type { Page } from '../tenant/repository.js';
import { type AdminKeyView, parseAdminKeyDraft, toAdminKeyView } from '../user/admin-key.js';
import { parseUserChanges, parseUserDraft, toUserView, type UserRecord, type UserView } from '../user/user.js';
import { type AuditedChange, recordable } from './audited.js';
import type { Management } from './management.js';
import type { ChangeOptions, IssuedAdminKey } from './operations.js';
import { type Paged, pagedOf } from './paged.js';
import { type Principal, requireOperator, requireUserAccess } from './principal.js';

export class UserOperations {
  readonly #management: Management;
  readonly #principal: Principal;

  constructor(management: Management, principal: Principal) {
    this.#management = management;
    this.#principal = principal;
  }

  async createUser(input: unknown): Promise<UserView> {
    requireOperator(this.#principal);
    const draft = parseUserDraft(input);
    const { name, tenant } = draft;
    if (tenant !== null) await this.#management.tenants.get(tenant);
    const change = { ...userChange('create', { name, tenant }), details: recordable({ ...draft }) };
    return toUserView(await this.#audited(change, () => this.#management.users.create(draft)));
  }

  async listUsers(page: Page): Promise<Paged<UserView>> {
    requireOperator(this.#principal);
    return pagedOf(await this.#management.users.list(page), page, toUserView);
  }

  async showUser(name: string): Promise<UserView> {
    requireUserAccess(this.#principal, name);
    return toUserView(await this.#management.users.get(name));
  }

  async updateUser(name: string, input: unknown, { ifVersion }: ChangeOptions = {}): Promise<UserView> {
    requireUserAccess(this.#principal, name);
    requireOperator(this.#principal);
    const changes = parseUserChanges(input);
    if (typeof changes.tenant === 'string') await this.#management.tenants.get(changes.tenant);
    const before = await this.#management.users.get(name);
    const change = { ...userChange('update', before), details: recordable(changes) };
    const record = await this.#audited(change, () =>
      this.#management.users.update(name, changes, ({ version }) => {
        requireVersion(`User ${name}`, version, ifVersion);
      }),
    );
    return toUserView(record);
  }

  async removeUser(name: string): Promise<void> {
    requireUserAccess(this.#principal, name);
    requireOperator(this.#principal);
    const before = await this.#management.users.get(name);
    await this.#audited(userChange('remove', before), () => this.#management.users.remove(name));
  }

  async createAdminKey(name: string, input: unknown): Promise<IssuedAdminKey> {
    requireUserAccess(this.#principal, name);
    if (this.#principal.kind === 'personal-key') {
      throw new ForbiddenError('A personal admin key cannot make another one: log in for that.');
    }
    const draft = parseAdminKeyDraft(input, (this.#management.options.now ?? Date.now)());
    const user = await this.#management.users.get(name);
    const details = { name: draft.name, expiresAt: new Date(draft.expiresAt).toISOString() };
    const change = { ...userChange('key-create', user), details };
    const { record, secret } = await this.#audited(change, () => this.#management.adminKeys.create(user, draft));
    return { key: toAdminKeyView(record), secret };
  }

  async listAdminKeys(name: string, page: Page): Promise<Paged<AdminKeyView>> {
    requireUserAccess(this.#principal, name);
    await this.#management.users.get(name);
    return pagedOf(await this.#management.adminKeys.list(name, page), page, toAdminKeyView);
  }

  async deleteAdminKey(name: string, id: string): Promise<void> {
    requireUserAccess(this.#principal, name);
    const user = await this.#management.users.get(name);
    const change = { ...userChange('key-delete', user), details: { id } };
    await this.#audited(change, () => this.#management.adminKeys.delete(name, id));
  }

  #audited<T>(change: AuditedChange, perform: () => Promise<T>): Promise<T> {
    return this.#management.audited(this.#principal, change, perform);
  }
}

/** The record of an owner is one of its tenant. */
export function userChange(verb: string, { name, tenant }: Pick<UserRecord, 'name' | 'tenant'>): AuditedChange {
  return { action: `user.${verb}`, tenant: tenant ?? '', target: `user:${name}` };
}
