/**
 * Personal admin keys: a credential of the admin API for programs of a user, with the user's role at the moment of use
 * and an end. Kept as their SHA-256; shown once.
 */
import { timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { keys, recordFields } from '../redis/keys.js';
import type { RunScript } from '../redis/scripts.js';
import type { Store } from '../redis/store.js';
import { nameInput } from '../tenant/draft.js';
import { parseInput } from '../tenant/parse-input.js';
import { RecordReader } from '../tenant/record-reader.js';
import { ConflictError, DraftError, NotFoundError } from '../tenant/refusal.js';
import type { Listing, Page } from '../tenant/repository.js';
import { drawPlaintext, drawTokenId, hashPlaintext, isTokenId, parseToken } from '../token/format.js';
import { readExpiry } from '../token/expiry.js';
import { indexedCreateContract } from './repository.js';
import type { UserRecord } from './user.js';

const prefix = 'tk_admin';
const keysMax = 20;
const lifetimeMaxMs = 366 * 86_400_000;

export const adminKeyDraftInput = z.strictObject({
  name: nameInput,
  expiresAt: z.string().default('90d').describe('RFC 3339, or from now: 90d; at most 366d'),
});

export interface AdminKeyRecord {
  readonly id: string;
  readonly user: string;
  /** Of the user it was made for. */
  readonly uid: string;
  readonly name: string;
  readonly sha256: string;
  /** ms since 1970. */
  readonly createdAt: number;
  readonly expiresAt: number;
}

/** What is shown of a key. Times are RFC 3339. */
export interface AdminKeyView {
  readonly id: string;
  readonly user: string;
  readonly name: string;
  readonly createdAt: string;
  readonly expiresAt: string;
}

export interface IssuedAdminKey {
  readonly record: AdminKeyRecord;
  /** Known this once. */
  readonly secret: string;
}

export interface AdminKeyDraft {
  readonly name: string;
  /** ms since 1970. */
  readonly expiresAt: number;
}

/** @throws DraftError that names every field at fault. */
export function parseAdminKeyDraft(input: unknown, nowMs: number): AdminKeyDraft {
  const { name, expiresAt } = parseInput(adminKeyDraftInput, input);
  const time = readExpiry(expiresAt, nowMs);
  if (typeof time === 'string') throw new DraftError([{ field: 'expiresAt', message: time }]);
  if (time > nowMs + lifetimeMaxMs) throw new DraftError([{ field: 'expiresAt', message: 'must be within 366 days' }]);
  return { name, expiresAt: time };
}

export function toAdminKeyView({ id, user, name, createdAt, expiresAt }: AdminKeyRecord): AdminKeyView {
  return {
    id,
    user,
    name,
    createdAt: new Date(createdAt).toISOString(),
    expiresAt: new Date(expiresAt).toISOString(),
  };
}

export class AdminKeys {
  readonly #store: Store;
  readonly #now: () => number;
  readonly #create: RunScript;

  /** `now` answers ms since 1970. */
  constructor(store: Store, now: () => number = Date.now) {
    this.#store = store;
    this.#now = now;
    this.#create = store.bind(indexedCreateContract);
  }

  /** @throws ConflictError when the user has too many. */
  async create(user: UserRecord, { name, expiresAt }: AdminKeyDraft): Promise<IssuedAdminKey> {
    const id = drawTokenId(user.name);
    const secret = drawPlaintext(prefix, id);
    const createdAt = this.#now();
    const record = { id, user: user.name, uid: user.uid, name, sha256: hashPlaintext(secret), createdAt, expiresAt };
    return this.#store.confirmed(`admin key ${id}`, async () => {
      const reply = await this.#create(
        [keys.userAdminKeys(user.name), keys.adminKey(id)],
        [id, expiresAt, keysMax, expiresAt - createdAt, JSON.stringify(record)],
      );
      if (reply === 1) return { record, secret };
      throw new ConflictError(`User ${user.name} has ${keysMax} admin keys: delete one first.`);
    });
  }

  /** The key that a text is, or undefined: malformed, unknown or expired. Whose it is has yet to be looked up. */
  async match(text: string): Promise<AdminKeyRecord | undefined> {
    const parsed = parseToken(text, prefix);
    if (parsed === null) return undefined;
    const record = await this.#find(parsed.id);
    if (record === null || record.expiresAt <= this.#now()) return undefined;
    const presented = Buffer.from(hashPlaintext(text), 'hex');
    const kept = Buffer.from(record.sha256, 'hex');
    return kept.length === presented.length && timingSafeEqual(kept, presented) ? record : undefined;
  }

  /** Of one user, by the time at which they end. */
  async list(user: string, { page, perPage }: Page): Promise<Listing<AdminKeyRecord>> {
    const ids = await this.#store.ask(() => this.#store.redis.zrange(keys.userAdminKeys(user), 0, '-1'));
    const found = await Promise.all(ids.map((id) => this.#find(id)));
    const records = found.filter((record) => record !== null);
    return { records: records.slice((page - 1) * perPage, page * perPage), total: records.length };
  }

  /** @throws NotFoundError when the user has no such key. */
  async delete(user: string, id: string): Promise<void> {
    const [key, index] = [keys.adminKey(id), keys.userAdminKeys(user)];
    const record = isTokenId(id) ? await this.#find(id) : null;
    if (record?.user !== user) throw new NotFoundError('There is no such admin key.');
    await this.#store.confirmed(`admin key ${id}`, async () => {
      await this.#store.write(key, (node) => node.del(key));
      await this.#store.write(index, (node) => node.zrem(index, id));
    });
  }

  async #find(id: string): Promise<AdminKeyRecord | null> {
    const json = await this.#store.ask(() => this.#store.redis.hget(keys.adminKey(id), recordFields.record));
    return json === null ? null : decodeAdminKeyRecord(json);
  }
}

/** @throws RecordError when a known field has the wrong type. */
export function decodeAdminKeyRecord(json: string): AdminKeyRecord {
  const read = new RecordReader('admin key', json);
  return {
    id: read.text('id'),
    user: read.text('user'),
    uid: read.text('uid'),
    name: read.text('name'),
    sha256: read.text('sha256'),
    createdAt: read.integer('createdAt'),
    expiresAt: read.integer('expiresAt'),
  };
}
