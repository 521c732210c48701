/**
 * Tokens in Redis and everything that can happen to one.
 *
 * Purpose: each operation is one atomic write; once it has answered, no admission decided later sees the old record.
 * Concurrency: creation counts the tenant's places in its script; changes are compare-and-set on the version and are
 *   applied again to what somebody else made of the record.
 * Failure: as redis/store.ts. What stands in a record is never a plaintext; it is returned once, by create and rotate.
 */
import { compileLimits } from '../admission/limit.js';
import { changesChannel, keys, recordFields } from '../redis/keys.js';
import type { RunScript, ScriptContract } from '../redis/scripts.js';
import { leasesEnd, type Store } from '../redis/store.js';
import { isTenantSlug } from '../tenant/draft.js';
import { ConflictError, NotConfiguredError, NotFoundError } from '../tenant/refusal.js';
import type { Listing, Page } from '../tenant/repository.js';
import { applyTokenChanges, type ImportDraft, type TokenChanges, type TokenDraft } from './draft.js';
import { ForeignTokens } from './foreign.js';
import { drawPlaintext, drawTokenId, hashPlaintext, isTokenId, requireTokenPrefix } from './format.js';
import { decodeTokenRecord, effectiveLimits, encodeTokenRecord, type TokenRecord } from './token.js';

/** Contracts of this file's scripts. */
export const tokenScripts = {
  create: {
    name: 'token-create',
    keys: ['tenant', 'tenantTokens', 'token'],
    argv: ['id', 'createdAt', 'record', 'limits', 'channel', 'message'],
  },
  delete: { name: 'token-delete', keys: ['tenantTokens', 'token'], argv: ['id', 'channel', 'message'] },
} as const satisfies Record<string, ScriptContract>;

/** Encrypts the secret of an HMAC token for its record; bound to the id. */
export type SealSecret = (plaintext: string, tokenId: string) => string;

export interface TokenRepositoryOptions {
  readonly tokenPrefix: string;
  /** Undefined without a master key: HMAC tokens are refused then. */
  readonly sealSecret?: SealSecret | undefined;
  /** ms since 1970. */
  readonly now?: () => number;
}

/** A token whose secret was just drawn: the only time that it is known. */
export interface IssuedSecret {
  readonly record: TokenRecord;
  readonly secret: string;
}

/** The secrets of an HMAC token as they are kept. */
export type SealedSecrets = Pick<TokenRecord, 'sealedSecret' | 'previousSealedSecret'>;

type SecretFields = Pick<TokenRecord, 'secretSha256' | 'sealedSecret'>;

const lostSecret = 'if it is there, draw a new secret with token rotate: the one just drawn is known to nobody';

export class TokenRepository {
  readonly #store: Store;
  readonly #prefix: string;
  readonly #sealSecret: SealSecret | undefined;
  readonly #now: () => number;
  readonly #foreign: ForeignTokens;
  readonly #create: RunScript;
  readonly #delete: RunScript;

  /** @throws OperatorError when the prefix is not allowed. */
  constructor(store: Store, options: TokenRepositoryOptions) {
    this.#store = store;
    this.#prefix = requireTokenPrefix(options.tokenPrefix);
    this.#sealSecret = options.sealSecret;
    this.#now = options.now ?? Date.now;
    this.#foreign = new ForeignTokens(store);
    this.#create = store.bind(tokenScripts.create);
    this.#delete = store.bind(tokenScripts.delete);
  }

  /**
   * Creates a token; `id` is one drawn for the tenant before.
   * @throws NotFoundError without the tenant; ConflictError when it has no place left or is being deleted;
   *   OperatorError for mode hmac without a master key; NotConfirmedError as {@link Store}.
   */
  async create(tenant: string, draft: TokenDraft, id = drawTokenId(tenant)): Promise<IssuedSecret> {
    const secret = drawPlaintext(this.#prefix, id);
    const record = this.#newRecord(tenant, id, draft, this.#secretFields(draft.mode, secret, id));
    const insert = async (): Promise<IssuedSecret> => {
      if (!(await this.#insert(record))) throw new Error(`the id ${id} was drawn twice`);
      return { record, secret };
    };
    return this.#store.confirmed(`token ${id}`, insert, lostSecret);
  }

  /**
   * Imports a token that another system issued, by its SHA-256.
   * @throws ConflictError when that hash was imported already; else as {@link create}.
   */
  async import(tenant: string, { sha256, ...draft }: ImportDraft, id = drawTokenId(tenant)): Promise<TokenRecord> {
    const secret = { secretSha256: sha256, sealedSecret: null };
    const record = { ...this.#newRecord(tenant, id, draft, secret), foreign: true };
    return this.#store.confirmed(`token ${id}`, async () => {
      await this.#foreign.claim(sha256, id);
      let isInserted: boolean;
      try {
        isInserted = await this.#insert(record);
      } catch (error) {
        // Without an answer the token may exist: its claim then runs out by itself.
        if (error instanceof ConflictError || error instanceof NotFoundError) await this.#foreign.release(sha256, id);
        throw error;
      }
      if (!isInserted) throw new ConflictError('This SHA-256 was imported by somebody else at the same moment.');
      if (await this.#foreign.keep(sha256, id)) return record;
      await this.#remove(record);
      throw new ConflictError('The import took too long and was taken back: try again.');
    });
  }

  /**
   * Creates the token of an imported hash under the id that its mapping names; false when that is there already. Not
   * confirmed: the caller confirms many at once ({@link Store.confirmed}).
   * @throws NotFoundError without the tenant; ConflictError when it has no place left or is being deleted.
   */
  async createForeign(tenant: string, id: string, { sha256, ...draft }: ImportDraft): Promise<boolean> {
    const secret = { secretSha256: sha256, sealedSecret: null };
    return this.#insert({ ...this.#newRecord(tenant, id, draft, secret), foreign: true });
  }

  /** The token, or null when there is none of that id. */
  async find(id: string): Promise<TokenRecord | null> {
    if (!isTokenId(id)) return null;
    const json = await this.#store.ask(() => this.#store.redis.hget(keys.token(id), recordFields.record));
    return json === null ? null : decodeTokenRecord(json);
  }

  /** @throws NotFoundError when there is none of that id. */
  async get(id: string): Promise<TokenRecord> {
    return (await this.find(id)) ?? noSuchToken(id);
  }

  /**
   * The token of this tenant. Whether the id is free or another tenant's costs the same work and says the same.
   * @throws NotFoundError when the tenant has none of that id.
   */
  async getIn(tenant: string, id: string): Promise<TokenRecord> {
    if (!isTokenId(id) || !isTenantSlug(tenant)) noSuchToken(id);
    const listed = await this.#store.ask(() => this.#store.redis.zscore(keys.tenantTokens(tenant), id));
    return listed === null ? noSuchToken(id) : this.get(id);
  }

  /** The tokens of a tenant in the order of their creation; none when there is no such tenant. */
  async list(tenant: string, { page, perPage }: Page): Promise<Listing<TokenRecord>> {
    const { redis } = this.#store;
    const index = keys.tenantTokens(tenant);
    const first = (page - 1) * perPage;
    const [ids, listed] = await this.#store.ask(() =>
      Promise.all([redis.zrange(index, first, String(first + perPage - 1)), redis.zcard(index)]),
    );
    const found = await Promise.all(ids.map((id) => this.find(id)));
    const records = found.filter((record) => record !== null);
    return { records, total: listed - (found.length - records.length) };
  }

  /**
   * Changes settings; secret and counters stay. `changes` may be a function of the record as it is at that moment.
   * @throws NotFoundError; DraftError when the changes contradict the record.
   */
  update(id: string, changes: TokenChanges | ((record: TokenRecord) => TokenChanges)): Promise<TokenRecord> {
    return this.#confirmedChange(id, (record) =>
      applyTokenChanges(record, typeof changes === 'function' ? changes(record) : changes),
    );
  }

  /**
   * Draws a new secret; the old one is invalid at once, or after `graceSeconds`.
   * @throws NotFoundError; ConflictError when the token was revoked.
   */
  async rotate(id: string, { graceSeconds }: { readonly graceSeconds: number }): Promise<IssuedSecret> {
    if (!isTokenId(id)) noSuchToken(id);
    const secret = drawPlaintext(this.#prefix, id);
    const rotatedAt = this.#now();
    const grace = graceSeconds > 0;
    let given: SecretFields | undefined;
    let dropped = null as string | null;
    const rotated = (record: TokenRecord): TokenRecord => {
      refuseRevoked(record);
      given ??= this.#secretFields(record.mode, secret, id);
      // What was imported is the current secret until the first rotation, and the previous one during its grace.
      const foreign = grace && record.foreign && record.rotatedAt === null;
      dropped = record.foreign && !foreign ? foreignHash(record) : null;
      return {
        ...record,
        ...given,
        foreign,
        rotatedAt,
        previousSha256: grace && record.mode === 'bearer' ? record.secretSha256 : null,
        previousSealedSecret: grace && record.mode === 'hmac' ? record.sealedSecret : null,
        previousUntil: grace ? rotatedAt + graceSeconds * 1000 : null,
      };
    };
    const change = async (): Promise<IssuedSecret> => {
      const record = await this.#change(id, rotated);
      if (dropped !== null) await this.#foreign.release(dropped, id);
      return { record, secret };
    };
    return this.#store.confirmed(`token ${id}`, change, lostSecret);
  }

  /** Ends the token at once and for ever. May be repeated. @throws NotFoundError. */
  revoke(id: string): Promise<TokenRecord> {
    return this.#confirmedChange(id, (record) => ({ ...record, state: 'revoked' }));
  }

  /** Switches the token on. @throws NotFoundError; ConflictError when it was revoked. */
  activate(id: string): Promise<TokenRecord> {
    return this.#switch(id, 'active');
  }

  /** Switches the token off. @throws NotFoundError; ConflictError when it was revoked. */
  deactivate(id: string): Promise<TokenRecord> {
    return this.#switch(id, 'inactive');
  }

  /**
   * Replaces how the secrets of an HMAC token are sealed; `reseal` may run several times. Not confirmed: the caller
   * confirms many at once ({@link Store.confirmed}).
   * @throws NotFoundError.
   */
  replaceSealedSecrets(id: string, reseal: (record: TokenRecord) => SealedSecrets): Promise<TokenRecord> {
    return this.#change(id, (record) => {
      const { sealedSecret, previousSealedSecret } = reseal(record);
      return { ...record, sealedSecret, previousSealedSecret };
    });
  }

  /** Deletes the record; logs and usage stay until their retention. @throws NotFoundError. */
  async delete(id: string): Promise<void> {
    await this.#store.confirmed(`token ${id}`, async () => {
      const removed = await this.#remove(await this.get(id));
      if (removed === 'leased') await leasesEnd();
      if (removed === 'absent') noSuchToken(id);
    });
  }

  /** Deletes all tokens of a tenant for which no more can be created. */
  async deleteAll(tenant: string): Promise<void> {
    const { redis } = this.#store;
    await this.#store.confirmed(`the tokens of tenant ${tenant}`, async () => {
      for (;;) {
        const ids = await this.#store.ask(() => redis.zrange(keys.tenantTokens(tenant), 0, '99'));
        if (ids.length === 0) break;
        for (const id of ids) await this.#remove((await this.find(id)) ?? { id, tenant });
      }
      // Once for all of them, leased or not.
      await leasesEnd();
    });
  }

  #switch(id: string, state: 'active' | 'inactive'): Promise<TokenRecord> {
    return this.#confirmedChange(id, (record) => {
      refuseRevoked(record);
      return { ...record, state };
    });
  }

  /** Always writes, also what is so already: only a write can be confirmed. */
  #confirmedChange(id: string, change: (record: TokenRecord) => TokenRecord): Promise<TokenRecord> {
    return this.#store.confirmed(`token ${id}`, () => this.#change(id, change));
  }

  async #change(id: string, change: (record: TokenRecord) => TokenRecord): Promise<TokenRecord> {
    if (!isTokenId(id)) noSuchToken(id);
    const changed = await this.#store.replaceRecord(keys.token(id), announcement(id), (json, version) => {
      const record = { ...change(decodeTokenRecord(json)), version };
      const limits = compileLimits(effectiveLimits(record));
      return { fields: { record: encodeTokenRecord(record, json), limits }, result: record };
    });
    return changed ?? noSuchToken(id);
  }

  /** False: the id is taken. */
  async #insert(record: TokenRecord): Promise<boolean> {
    const { id, tenant } = record;
    if (!isTenantSlug(tenant)) noSuchTenant(tenant);
    const limits = compileLimits(effectiveLimits(record));
    const reply = await this.#create(
      [keys.tenant(tenant), keys.tenantTokens(tenant), keys.token(id)],
      [id, record.createdAt, encodeTokenRecord(record), limits, changesChannel, announcement(id)],
    );
    if (reply === 1 || reply === -3) return reply === 1;
    if (reply === 0) noSuchTenant(tenant);
    if (reply === -1) throw new ConflictError(`Tenant ${tenant} is being deleted: no token can be created.`);
    if (reply === -2) {
      throw new ConflictError(
        `Tenant ${tenant} has no place for another token: delete one that is no longer used (revoked ones count too), ` +
          `or raise its limit with tollkeeper tenant update ${tenant} --max-tokens N.`,
      );
    }
    throw new Error(`token-create answered ${String(reply)} for ${id}`);
  }

  /** `leased`: it is gone, and sidecars may still hold leases of it. */
  async #remove(
    record: Pick<TokenRecord, 'id' | 'tenant'> & Partial<TokenRecord>,
  ): Promise<'absent' | 'removed' | 'leased'> {
    const { id, tenant } = record;
    const reply = await this.#delete(
      [keys.tenantTokens(tenant), keys.token(id)],
      [id, changesChannel, announcement(id)],
    );
    const sha256 = record.foreign === true ? foreignHash(record) : null;
    if (sha256 !== null) await this.#foreign.release(sha256, id);
    if (reply === 2) return 'leased';
    return reply === 1 ? 'removed' : 'absent';
  }

  #newRecord(tenant: string, id: string, draft: TokenDraft, secret: SecretFields): TokenRecord {
    return {
      id,
      tenant,
      name: draft.name,
      description: draft.description,
      mode: draft.mode,
      state: 'active',
      scopes: draft.scopes,
      rateLimit: draft.rateLimit,
      limits: draft.limits,
      quota: draft.quota,
      expiresAt: draft.expiresAt,
      subject: draft.subject,
      allowedIps: draft.allowedIps,
      metadata: draft.metadata,
      lease: draft.lease,
      createdAt: this.#now(),
      rotatedAt: null,
      version: 1,
      ...secret,
      previousSha256: null,
      previousUntil: null,
      previousSealedSecret: null,
      foreign: false,
      signaturesFrom: null,
    };
  }

  #secretFields(mode: TokenRecord['mode'], secret: string, id: string): SecretFields {
    if (mode === 'bearer') return { secretSha256: hashPlaintext(secret), sealedSecret: null };
    if (this.#sealSecret === undefined) {
      throw new NotConfiguredError(
        'HMAC tokens are kept encrypted and there is no master key: set TOLLKEEPER_MASTER_KEY to 32 random bytes ' +
          '(openssl rand -base64 32), the same for every Tollkeeper on this Redis.',
      );
    }
    return { secretSha256: '', sealedSecret: this.#sealSecret(secret, id) };
  }
}

/** The hash by which a foreign token is found, or null when its imported secret is out of use. */
export function foreignHash(record: Partial<TokenRecord>): string | null {
  return (record.rotatedAt === null ? record.secretSha256 : record.previousSha256) ?? null;
}

function announcement(id: string): string {
  return `token:${id}`;
}

function refuseRevoked(record: TokenRecord): void {
  if (record.state !== 'revoked') return;
  throw new ConflictError(`Token ${record.id} was revoked, and that is for ever: create a new one.`);
}

function noSuchToken(id: string): never {
  throw new NotFoundError(
    isTokenId(id)
      ? `There is no token ${id}: see tollkeeper token list --tenant SLUG.`
      : 'There is no such token: an id has 12 letters and digits (the part between the prefix and the secret).',
  );
}

function noSuchTenant(slug: string): never {
  throw new NotFoundError(
    isTenantSlug(slug) ? `There is no tenant ${slug}: see tollkeeper tenant list.` : 'There is no such tenant.',
  );
}
