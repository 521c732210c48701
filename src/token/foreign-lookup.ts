/** The data plane's side of imported tokens: from the SHA-256 of a presented token to the id it got here. */
import { inPollPhase } from '../core/poll-phase.js';
import { Breaker } from '../redis/breaker.js';
import { metaFields } from '../redis/meta.js';
import { keys, shardOf } from '../redis/keys.js';
import type { RedisConnection } from '../redis/target.js';

/** What a question has left of its deadline at least, ms; as a batch of admission. */
const lastWaitMs = 50;

/**
 * The id, or null when nothing was imported under this hash. `installation` is the id the store must carry, '' while
 * unknown: an emptied store must not turn every imported token into an invalid one.
 * @throws what the connection says, or Error when the store is empty or another one: an outage, never a 401.
 */
export async function findForeignId(
  redis: RedisConnection,
  installation: string,
  sha256Hex: string,
): Promise<string | null> {
  const [id, found] = await Promise.all([
    redis.get(keys.foreign(sha256Hex)),
    redis.hget(keys.meta(shardOf(sha256Hex)), metaFields.installation),
  ]);
  if (id !== null) return id;
  if (found === null || (installation !== '' && found !== installation)) throw new Error('the store is not ours');
  return null;
}

/**
 * {@link findForeignId} for requests: each has an answer within its deadline, and while Redis gives none, nobody asks.
 * With a breaker of its own: anybody can present a token that nobody has imported, and nothing else may need Redis.
 */
export class ForeignIds {
  readonly #find: (sha256Hex: string) => Promise<string | null>;
  readonly #timeoutMs: number;
  readonly #breaker = new Breaker();

  /** `find` asks Redis; `timeoutMs` counts from the `sinceMs` of {@link find}. */
  constructor(find: (sha256Hex: string) => Promise<string | null>, timeoutMs: number) {
    this.#find = find;
    this.#timeoutMs = timeoutMs;
  }

  /** `sinceMs`: when the request began to wait for Redis (monotonic). @throws Error when Redis cannot be asked in time. */
  async find(sha256Hex: string, sinceMs: number): Promise<string | null> {
    const nowMs = performance.now();
    if (!this.#breaker.allows(nowMs)) throw new Error('Redis does not answer');
    let timer: NodeJS.Timeout | undefined;
    const leftMs = Math.max(sinceMs + this.#timeoutMs - nowMs, Math.min(this.#timeoutMs / 2, lastWaitMs));
    const late = new Promise<never>((_, reject) => {
      const giveUp = (): void => inPollPhase(() => reject(new Error('Redis gave no answer in time')));
      // After a stall of this process the answer may lie unread in the socket: it is read first.
      timer = setTimeout(() => setImmediate(giveUp), leftMs);
    });
    try {
      const id = await Promise.race([this.#find(sha256Hex), late]);
      this.#breaker.succeeded();
      return id;
    } catch (error) {
      this.#breaker.failed(performance.now());
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}
