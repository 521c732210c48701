/** Users in Redis. All keys of people are in one slot, {admin}. */
import { randomUUID } from 'node:crypto';
import { keys, recordFields } from '../redis/keys.js';
import type { RunScript, ScriptContract } from '../redis/scripts.js';
import type { Store } from '../redis/store.js';
import { encodeChanged } from '../tenant/record-reader.js';
import { ConflictError, NotFoundError } from '../tenant/refusal.js';
import type { Listing, Page } from '../tenant/repository.js';
import { hashPassword, type PasswordCost } from './password.js';
import {
  decodeUserRecord,
  isUserName,
  requireTenantOfRole,
  type UserChanges,
  type UserDraft,
  type UserRecord,
} from './user.js';

/** Contract of lua/indexed-create.lua. */
export const indexedCreateContract: ScriptContract = {
  name: 'indexed-create',
  keys: ['index', 'entity'],
  argv: ['member', 'score', 'placesMax', 'ttlMs', 'record'],
};

const usersMax = 10_000;

export class UserRepository {
  readonly #store: Store;
  readonly #now: () => number;
  readonly #cost: PasswordCost | undefined;
  readonly #create: RunScript;

  /** `now` answers ms since 1970; `cost` is that of passwords set from now on. */
  constructor(store: Store, now: () => number = Date.now, cost?: PasswordCost) {
    this.#store = store;
    this.#now = now;
    this.#cost = cost;
    this.#create = store.bind(indexedCreateContract);
  }

  /** @throws ConflictError when the name is taken or there are too many. */
  async create({ name, role, tenant, password }: UserDraft): Promise<UserRecord> {
    const createdAt = this.#now();
    const record: UserRecord = {
      name,
      uid: randomUUID(),
      role,
      tenant,
      passwordHash: await hashPassword(password, this.#cost),
      sessionEpoch: randomUUID(),
      createdAt,
      passwordChangedAt: createdAt,
      version: 1,
    };
    return this.#store.confirmed(`user ${name}`, async () => {
      const reply = await this.#create(
        [keys.users(), keys.user(name)],
        [name, createdAt, usersMax, 0, JSON.stringify(record)],
      );
      if (reply === 0) throw new ConflictError(`User ${name} exists already: choose another name.`);
      if (reply === -1) throw new ConflictError(`There are ${usersMax} users already: remove one first.`);
      return record;
    });
  }

  /** The user, or null when there is none of that name. */
  async find(name: string): Promise<UserRecord | null> {
    if (!isUserName(name)) return null;
    const json = await this.#store.ask(() => this.#store.redis.hget(keys.user(name), recordFields.record));
    return json === null ? null : decodeUserRecord(json);
  }

  /** @throws NotFoundError. */
  async get(name: string): Promise<UserRecord> {
    return (await this.find(name)) ?? noSuchUser(name);
  }

  /** In the order of their creation. */
  async list({ page, perPage }: Page): Promise<Listing<UserRecord>> {
    const { redis } = this.#store;
    const first = (page - 1) * perPage;
    const [names, total] = await this.#store.ask(() =>
      Promise.all([redis.zrange(keys.users(), first, String(first + perPage - 1)), redis.zcard(keys.users())]),
    );
    const found = await Promise.all(names.map((name) => this.find(name)));
    return { records: found.filter((record) => record !== null), total };
  }

  /** Names of the owners of a tenant. */
  async ownersOf(tenant: string): Promise<string[]> {
    const names = await this.#store.ask(() => this.#store.redis.zrange(keys.users(), 0, '-1'));
    const owners: string[] = [];
    for (const name of names) if ((await this.find(name))?.tenant === tenant) owners.push(name);
    return owners;
  }

  /**
   * Changes a user; a new password, role or tenant ends their sessions. `check` may refuse the record as it is.
   * @throws NotFoundError; DraftError when role and tenant contradict each other.
   */
  async update(
    name: string,
    changes: UserChanges,
    check: (record: UserRecord) => void = () => {},
  ): Promise<UserRecord> {
    const { password } = changes;
    const passwordHash = password === undefined ? undefined : await hashPassword(password, this.#cost);
    const nowMs = this.#now();
    return this.#change(name, (record) => {
      check(record);
      const changed = {
        ...record,
        role: changes.role ?? record.role,
        tenant: changes.tenant === undefined ? record.tenant : changes.tenant,
        ...(passwordHash === undefined ? {} : { passwordHash, passwordChangedAt: nowMs }),
        sessionEpoch: randomUUID(),
      };
      requireTenantOfRole(changed);
      return changed;
    });
  }

  /** Ends every session of the user. @throws NotFoundError. */
  endSessions(name: string): Promise<UserRecord> {
    return this.#change(name, (record) => ({ ...record, sessionEpoch: randomUUID() }));
  }

  /** Removes the user; sessions and personal keys open nothing from then on. @throws NotFoundError. */
  async remove(name: string): Promise<void> {
    if (!isUserName(name)) noSuchUser(name);
    const { redis } = this.#store;
    await this.#store.confirmed(`user ${name}`, async () => {
      const adminKeys = await this.#store.ask(() => redis.zrange(keys.userAdminKeys(name), 0, '-1'));
      const removed = await this.#store.write(keys.user(name), (node) => node.del(keys.user(name)));
      await this.#store.write(keys.users(), (node) => node.zrem(keys.users(), name));
      for (const id of adminKeys) await this.#delete(keys.adminKey(id));
      const left = [keys.userAdminKeys(name), keys.userSessions(name)];
      for (const key of left) await this.#delete(key);
      if (removed === 0) noSuchUser(name);
    });
  }

  #delete(key: string): Promise<number> {
    return this.#store.write(key, (node) => node.del(key));
  }

  #change(name: string, change: (record: UserRecord) => UserRecord): Promise<UserRecord> {
    if (!isUserName(name)) noSuchUser(name);
    return this.#store.confirmed(`user ${name}`, async () => {
      const changed = await this.#store.replaceRecord(keys.user(name), `user:${name}`, (json, version) => {
        const record = { ...change(decodeUserRecord(json)), version };
        return { fields: { record: encodeChanged(json, record) }, result: record };
      });
      return changed ?? noSuchUser(name);
    });
  }
}

function noSuchUser(name: string): never {
  throw new NotFoundError(isUserName(name) ? `There is no user ${name}.` : 'There is no such user.');
}
