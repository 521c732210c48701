/**
 * `Idempotency-Key` on POST (docs/adr/0013): the request of a key runs at most once in a day; sent again, it is answered as
 * the first time. What was answered may hold a secret, so it is kept only encrypted under the master key; without one, the
 * repeat of a request whose answer held a secret is told so instead.
 *
 * A key is marked before its request runs. A process that ends in between leaves the mark: whether the change was made is
 * not known then, and the repeat is refused rather than run twice.
 */
import { createHash, createHmac } from 'node:crypto';
import { type MasterKeys, openSecret, sealSecret } from '../credential/sealed-secret.js';
import type { Principal } from '../management/principal.js';
import { keys } from '../redis/keys.js';
import type { Store } from '../redis/store.js';
import { AdminRefusal } from './problem.js';

/** What is answered again. */
export interface KeptAnswer {
  readonly status: number;
  readonly etag: string | null;
  readonly body: unknown;
}

/** The one time that a request runs. */
export interface FirstRun {
  /** Keeps what is answered. */
  finished(answer: KeptAnswer, secret: boolean): Promise<void>;
  /** Nothing was changed: it may be sent again. */
  refused(): Promise<void>;
}

interface Mark {
  readonly fingerprint: string;
  /** ms since 1970. */
  readonly begunAt: number;
  readonly done?: {
    /** Sealed {@link KeptAnswer}, or in clear where it holds no secret and there is no master key; null: not kept. */
    readonly sealed: string | null;
    readonly clear: KeptAnswer | null;
  };
}

const keptMs = 24 * 3_600_000;
/** A request of the admin API is over by then, whatever happens to Redis. */
const runningMaxMs = 60_000;
const keptBytesMax = 65_536;

export class IdempotentRequests {
  readonly #store: Store;
  readonly #masterKeys: MasterKeys | undefined;

  constructor(store: Store, masterKeys: MasterKeys | undefined) {
    this.#store = store;
    this.#masterKeys = masterKeys;
  }

  /**
   * Takes the key for this request, or answers what its first run answered.
   * @param key the header's value; of each principal its own.
   * @param subject the whole request, as text: another one under the same key is refused.
   * @throws AdminRefusal for a malformed or used key, and while the first run is under way or its outcome unknown.
   */
  async begin(principal: Principal, key: string, subject: string): Promise<FirstRun | KeptAnswer> {
    if (!/^[\x21-\x7e]{1,255}$/.test(key)) {
      throw new AdminRefusal('unreadable-request', 'An Idempotency-Key has 1 to 255 visible ASCII characters.');
    }
    // With its rights: what was answered to an operator is not answered again to an owner of the same name.
    const { kind, name: principalName, role, tenant } = principal;
    const digest = sha256([kind, principalName, role, tenant ?? '', key].join('\n'));
    const name = keys.idempotency(digest);
    // A body may hold a password: who reads the Redis does not have the key that its hash could be guessed with.
    const fingerprint = createHmac('sha256', key).update(subject).digest('hex');
    const mark: Mark = { fingerprint, begunAt: Date.now() };
    const { redis } = this.#store;
    const taken = await this.#store.ask(() => redis.set(name, JSON.stringify(mark), 'PX', keptMs, 'NX'));
    if (taken !== 'OK') return this.#repeated(digest, mark);
    return {
      finished: async (answer, secret) => {
        const done = this.#kept(answer, secret, digest);
        await this.#store.ask(() => redis.set(name, JSON.stringify({ ...mark, done }), 'PX', keptMs, 'XX'));
      },
      refused: async () => {
        await this.#store.ask(() => redis.del(name));
      },
    };
  }

  async #repeated(digest: string, { fingerprint }: Mark): Promise<KeptAnswer> {
    const json = await this.#store.ask(() => this.#store.redis.get(keys.idempotency(digest)));
    if (json === null) throw conflict('It has just ended: send it again.');
    const first = JSON.parse(json) as Mark;
    if (first.fingerprint !== fingerprint) {
      throw new AdminRefusal('idempotency-key-reused', 'This Idempotency-Key belongs to another request.');
    }
    if (first.done === undefined) {
      throw Date.now() - first.begunAt < runningMaxMs
        ? new AdminRefusal('idempotency-conflict', 'It is still running: send it again in a moment.', 1)
        : conflict('It did not come to its end, and whether it took effect is not known: look, then use a new key.');
    }
    return this.#opened(first.done, digest);
  }

  #kept(answer: KeptAnswer, secret: boolean, digest: string): NonNullable<Mark['done']> {
    const json = JSON.stringify(answer);
    if (json.length > keptBytesMax) return { sealed: null, clear: null };
    if (this.#masterKeys === undefined) return { sealed: null, clear: secret ? null : answer };
    return { sealed: sealSecret(json, placeOf(digest), this.#masterKeys), clear: null };
  }

  #opened({ sealed, clear }: NonNullable<Mark['done']>, digest: string): KeptAnswer {
    if (clear !== null) return clear;
    if (sealed !== null && this.#masterKeys !== undefined) {
      const { secret } = openSecret(sealed, placeOf(digest), this.#masterKeys);
      if (secret !== undefined) return JSON.parse(secret) as KeptAnswer;
    }
    throw conflict(
      'It was done, and its answer is not kept (a secret is kept only under TOLLKEEPER_MASTER_KEY): look at what it ' +
        'made, and rotate the token if its secret is lost.',
    );
  }
}

function conflict(detail: string): AdminRefusal {
  return new AdminRefusal('idempotency-conflict', detail);
}

/** Binds what is sealed to its key. */
function placeOf(digest: string): string {
  return `idempotency:${digest}`;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
