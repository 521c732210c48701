/**
 * Tenants in Redis. A tenant is one hash, its slug also stands in `tk:tenants`; the two are in different slots and so
 * cannot change in one step: the slug is listed before the hash exists and delisted after it is gone, and a slug
 * without a hash is passed over.
 */
import { compileLimits } from '../admission/limit.js';
import { OperatorError } from '../core/failure.js';
import { changesChannel, keys, recordFields, shardOf } from '../redis/keys.js';
import { initialise, metaFields } from '../redis/meta.js';
import type { RunScript, ScriptContract } from '../redis/scripts.js';
import type { RecordFields, Store } from '../redis/store.js';
import { applyTenantChanges, isTenantSlug, type TenantChanges, type TenantDraft } from './draft.js';
import { encodeChanged } from './record-reader.js';
import { ConflictError, NotFoundError } from './refusal.js';
import { decodeTenantRecord, type TenantRecord, tenantLimits } from './tenant.js';

/** Contracts of this file's scripts. */
export const tenantScripts = {
  create: {
    name: 'tenant-create',
    keys: ['meta', 'tenant'],
    argv: ['tenantVersion', 'version', 'record', 'limits', 'maxTokens', 'channel', 'message'],
  },
  delete: { name: 'tenant-delete', keys: ['meta', 'tenant', 'tenantTokens'], argv: ['channel', 'message'] },
} as const satisfies Record<string, ScriptContract>;

/** One page of a list; `page` counts from 1, `perPage` is 1 to 100. */
export interface Page {
  readonly page: number;
  readonly perPage: number;
}

export interface Listing<T> {
  readonly records: readonly T[];
  /** Entries of all pages. */
  readonly total: number;
}

export class TenantRepository {
  readonly #store: Store;
  readonly #now: () => number;
  readonly #create: RunScript;
  readonly #delete: RunScript;

  /** `now` answers ms since 1970. */
  constructor(store: Store, now: () => number = Date.now) {
    this.#store = store;
    this.#now = now;
    this.#create = store.bind(tenantScripts.create);
    this.#delete = store.bind(tenantScripts.delete);
  }

  /**
   * Creates a tenant; the first one initialises the Redis.
   * @throws ConflictError when the slug is taken; StoreUnavailableError and NotConfirmedError as {@link Store}.
   */
  async create(draft: TenantDraft): Promise<TenantRecord> {
    const { slug } = draft;
    const createdAt = this.#now();
    return this.#store.confirmed(`tenant ${slug}`, async () => {
      await initialise(this.#store, createdAt);
      await this.#store.write(keys.tenants(), (redis) => redis.zadd(keys.tenants(), 'NX', createdAt, slug));
      const record = await this.#insert({ ...draft, state: 'active', createdAt, version: 1 });
      // The slug may have been left in the list by a deletion that was cut short.
      await this.#store.write(keys.tenants(), (redis) => redis.zadd(keys.tenants(), createdAt, slug));
      return record;
    });
  }

  /** The tenant, or null when there is none of that slug. */
  async find(slug: string): Promise<TenantRecord | null> {
    if (!isTenantSlug(slug)) return null;
    const json = await this.#store.ask(() => this.#store.redis.hget(keys.tenant(slug), recordFields.record));
    return json === null ? null : decodeTenantRecord(json);
  }

  /** @throws NotFoundError when there is none of that slug. */
  async get(slug: string): Promise<TenantRecord> {
    return (await this.find(slug)) ?? noSuchTenant(slug);
  }

  /** Tenants in the order of their creation. */
  async list({ page, perPage }: Page): Promise<Listing<TenantRecord>> {
    const { redis } = this.#store;
    const first = (page - 1) * perPage;
    const [slugs, listed] = await this.#store.ask(() =>
      Promise.all([redis.zrange(keys.tenants(), first, String(first + perPage - 1)), redis.zcard(keys.tenants())]),
    );
    const found = await Promise.all(slugs.map((slug) => this.find(slug)));
    const records = found.filter((record) => record !== null);
    return { records, total: listed - (found.length - records.length) };
  }

  /** Number of tokens, in whatever state: each takes one of the tenant's places. */
  countTokens(slug: string): Promise<number> {
    return this.#store.ask(() => this.#store.redis.zcard(keys.tenantTokens(slug)));
  }

  /**
   * Changes the settings; what its limits have counted stays. `changes` may be a function of the record as it is at
   * that moment.
   * @throws NotFoundError, ConflictError when it is being deleted, DraftError when the changes contradict it.
   */
  update(slug: string, changes: TenantChanges | ((record: TenantRecord) => TenantChanges)): Promise<TenantRecord> {
    return this.#store.confirmed(`tenant ${slug}`, () =>
      this.#change(slug, (record) => {
        if (record.state === 'deleting') throw beingDeleted(slug);
        return applyTenantChanges(record, typeof changes === 'function' ? changes(record) : changes);
      }),
    );
  }

  /** First step of a forced deletion: from now on no token can be created. */
  async beginDeletion(slug: string): Promise<void> {
    await this.#change(slug, (record) => ({ ...record, state: 'deleting' }));
  }

  /**
   * Deletes a tenant that has no tokens.
   * @throws NotFoundError, ConflictError when it still has tokens.
   */
  async delete(slug: string): Promise<void> {
    if (!isTenantSlug(slug)) noSuchTenant(slug);
    await this.#store.confirmed(`tenant ${slug}`, async () => {
      const scriptKeys = [keys.meta(shardOf(slug)), keys.tenant(slug), keys.tenantTokens(slug)];
      const reply = Number(await this.#delete(scriptKeys, [changesChannel, announcement(slug)]));
      if (reply < 0) {
        throw new ConflictError(
          `Tenant ${slug} still has ${-reply} ${reply === -1 ? 'token' : 'tokens'}: ` +
            'delete them first, or delete all of it with --force.',
        );
      }
      await this.#store.write(keys.tenants(), (redis) => redis.zrem(keys.tenants(), slug));
      // Somebody may have created it anew between the two steps.
      const successor = await this.find(slug);
      if (successor !== null) {
        await this.#store.write(keys.tenants(), (redis) => redis.zadd(keys.tenants(), successor.createdAt, slug));
      }
      if (reply === 0) noSuchTenant(slug);
    });
  }

  async #insert(draft: TenantRecord): Promise<TenantRecord> {
    const { slug } = draft;
    const meta = keys.meta(shardOf(slug));
    for (;;) {
      const before = (await this.#store.ask(() => this.#store.redis.hget(meta, metaFields.tenantVersion))) ?? '0';
      const record = { ...draft, version: Number(before) + 1 };
      const reply = await this.#create(
        [meta, keys.tenant(slug)],
        [
          before,
          record.version,
          JSON.stringify(record),
          compileLimits(tenantLimits(record)),
          record.maxTokens,
          changesChannel,
          announcement(slug),
        ],
      );
      if (reply === 1) return record;
      if (reply === -1) throw new OperatorError('Redis lost its Tollkeeper data meanwhile: try again.');
      if (reply === 0) {
        const existing = await this.find(slug);
        throw existing?.state === 'deleting'
          ? beingDeleted(slug)
          : new ConflictError(`Tenant ${slug} exists already: choose another slug, or change it with tenant update.`);
      }
    }
  }

  async #change(slug: string, change: (record: TenantRecord) => TenantRecord): Promise<TenantRecord> {
    if (!isTenantSlug(slug)) noSuchTenant(slug);
    const changed = await this.#store.replaceRecord(keys.tenant(slug), announcement(slug), (json, version) => {
      const record = { ...change(decodeTenantRecord(json)), version };
      return { fields: fieldsOf(json, record), result: record };
    });
    return changed ?? noSuchTenant(slug);
  }
}

function fieldsOf(previousJson: string, record: TenantRecord): RecordFields {
  return {
    record: encodeChanged(previousJson, record),
    limits: compileLimits(tenantLimits(record)),
    maxTokens: record.maxTokens,
    state: record.state,
  };
}

function announcement(slug: string): string {
  return `tenant:${slug}`;
}

function beingDeleted(slug: string): ConflictError {
  return new ConflictError(
    `Tenant ${slug} is being deleted: bring that to its end with tollkeeper tenant delete ${slug} --force.`,
  );
}

function noSuchTenant(slug: string): never {
  throw new NotFoundError(
    isTenantSlug(slug)
      ? `There is no tenant ${slug}: see tollkeeper tenant list.`
      : 'There is no such tenant: a slug has 1 to 63 lower-case letters, digits and inner dashes.',
  );
}
