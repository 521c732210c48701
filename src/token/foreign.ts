/**
 * The mapping from the SHA-256 of a foreign token to the id it got here. It lies in the shard of the hash, the token in
 * that of its tenant, so the two are not written in one step: a claim that expires by itself comes first, then the
 * token, then the claim is kept for good. A mapping for good whose token is gone belongs to nobody (ids are never used
 * again) and may be taken.
 */
import { keys } from '../redis/keys.js';
import type { RunScript, ScriptContract } from '../redis/scripts.js';
import type { Store } from '../redis/store.js';
import { ConflictError } from '../tenant/refusal.js';

/** Contract of lua/foreign-settle.lua. */
export const foreignSettleContract: ScriptContract = {
  name: 'foreign-settle',
  keys: ['foreign'],
  argv: ['id', 'action'],
};

const claimMs = 30_000;

export class ForeignTokens {
  readonly #store: Store;
  readonly #settle: RunScript;

  constructor(store: Store) {
    this.#store = store;
    this.#settle = store.bind(foreignSettleContract);
  }

  /**
   * Claims the hash for the id, for 30 s.
   * @throws ConflictError when another token has it or is just getting it.
   */
  async claim(sha256: string, id: string): Promise<void> {
    const { redis } = this.#store;
    const key = keys.foreign(sha256);
    // The second turn follows a mapping that was given back; a third would be a race lost twice.
    for (let turn = 0; turn < 3; turn++) {
      const claimed = await this.#store.write(key, (writer) => writer.set(key, id, 'PX', claimMs, 'NX'));
      if (claimed === 'OK') return;
      const [holder, ttlMs] = await this.#store.ask(() => Promise.all([redis.get(key), redis.pttl(key)]));
      if (holder === null) continue;
      if (await this.#store.ask(() => redis.exists(keys.token(holder)))) {
        throw new ConflictError(`This SHA-256 was already imported, as token ${holder}.`);
      }
      if (ttlMs >= 0) break;
      await this.release(sha256, holder);
    }
    throw new ConflictError(
      'This SHA-256 is being imported by somebody else right now: look at the list, then try again.',
    );
  }

  /** Ends the claim of a token that now exists. False: it had run out. */
  async keep(sha256: string, id: string): Promise<boolean> {
    return (await this.#settle([keys.foreign(sha256)], [id, 'keep'])) === 1;
  }

  /** Gives the hash back, if the id holds it. */
  async release(sha256: string, id: string): Promise<void> {
    await this.#settle([keys.foreign(sha256)], [id, 'release']);
  }
}
