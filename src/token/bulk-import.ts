/**
 * Many foreign tokens of one tenant, imported by their SHA-256.
 *
 * Algorithm: the mapping of a hash is written first and for good, then the token under the id that the mapping names.
 *   Broken off in between, there is a mapping without a token, which nobody can use: the next import of that hash takes
 *   its id. So a hash is imported whole or not at all, and importing it again changes nothing.
 * Concurrency: two who import the same hash create the same id; the token exists once.
 * Failure: not confirmed row by row: the caller confirms a page ({@link Store.confirmed}).
 */
import { keys, shardOf } from '../redis/keys.js';
import type { Store } from '../redis/store.js';
import { ConflictError } from '../tenant/refusal.js';
import type { ImportDraft } from './draft.js';
import { drawTokenId } from './format.js';
import { foreignHash, type TokenRepository } from './repository.js';

/**
 * - `free`: nobody has this hash.
 * - `present`: a token of this tenant has it.
 * - `elsewhere`: a token of another tenant has it.
 */
export type HashStanding = 'free' | 'present' | 'elsewhere';

export class BulkImport {
  readonly #store: Store;
  readonly #tokens: TokenRepository;
  readonly #tenant: string;

  constructor(store: Store, tokens: TokenRepository, tenant: string) {
    this.#store = store;
    this.#tokens = tokens;
    this.#tenant = tenant;
  }

  /** What stands against each hash, in their order. */
  examine(hashes: readonly string[]): Promise<HashStanding[]> {
    const { redis } = this.#store;
    return Promise.all(
      hashes.map(async (sha256) => {
        const holder = await this.#store.ask(() => redis.get(keys.foreign(sha256)));
        const standing = await this.#standing(sha256, holder);
        return standing === 'usable' ? 'free' : standing;
      }),
    );
  }

  /**
   * Imports one page and answers how many of it were there already.
   * @throws ConflictError when the tenant has no place left, is being deleted, or a hash is another tenant's; the others of
   *   the page may be imported then.
   */
  async import(drafts: readonly ImportDraft[]): Promise<{ imported: number; present: number }> {
    const outcomes = await Promise.allSettled(drafts.map((draft) => this.#one(draft)));
    let imported = 0;
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') throw outcome.reason;
      if (outcome.value) imported += 1;
    }
    return { imported, present: drafts.length - imported };
  }

  /** False: it was there already. */
  async #one(draft: ImportDraft): Promise<boolean> {
    const key = keys.foreign(draft.sha256);
    const drawn = drawTokenId(this.#tenant);
    const holder = await this.#store.write(key, (redis) => redis.set(key, drawn, 'NX', 'GET'));
    const standing = await this.#standing(draft.sha256, holder);
    if (standing === 'present') return false;
    if (standing === 'elsewhere') throw takenError(draft.sha256);
    if (holder === null) return this.#tokens.createForeign(this.#tenant, drawn, draft);
    if (standing === 'usable') {
      // It may be that of a single import under way, which ends by itself: from now on it stays.
      await this.#store.write(key, (redis) => redis.persist(key));
      return this.#tokens.createForeign(this.#tenant, holder, draft);
    }
    await this.#store.write(key, (redis) => redis.set(key, drawn));
    return this.#tokens.createForeign(this.#tenant, drawn, draft);
  }

  /** `usable`: nobody has the hash, and its mapping names an id that this tenant may use. */
  async #standing(sha256: string, holder: string | null): Promise<HashStanding | 'usable'> {
    if (holder === null) return 'free';
    const token = await this.#tokens.find(holder);
    if (token === null) return shardOf(holder) === shardOf(this.#tenant) ? 'usable' : 'free';
    // Left behind by a rotation: the token has another secret by now.
    if (foreignHash(token) !== sha256) return 'free';
    return token.tenant === this.#tenant ? 'present' : 'elsewhere';
  }
}

function takenError(sha256: string): ConflictError {
  return new ConflictError(`The SHA-256 that begins with ${sha256.slice(0, 8)} was imported for another tenant.`);
}
