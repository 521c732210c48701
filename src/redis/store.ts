/**
 * The control plane's access to Redis: scripts on one connection, and the promise that a change which was reported
 * as done survives a failover.
 *
 * Purpose: a lifecycle write (create, rotate, revoke, …) is answered only when it is confirmed.
 * Algorithm: the write, then the wait for its copies (copies.ts): every replica in service (at least
 *   `redisMinReplicas`) and the append-only file.
 * Concurrency: WAIT speaks of the writes of its own connection. Should the connection have been replaced in between,
 *   a WAIT on the new one would confirm nothing: the connection's generation is compared before and after. On a Cluster
 *   each node that wrote is asked, on the connection that wrote: every write goes through `bind` or `write`, which tell
 *   the confirmation that is under way.
 * Failure: not confirmed is an error although the write may hold; asking again is safe for every operation but
 *   create and rotate, whose secret is then lost and must be drawn again.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { Cluster, type Redis } from 'ioredis';
import { OperatorError } from '../core/failure.js';
import { ClusterNodes } from './cluster-nodes.js';
import { missingCopies } from './copies.js';
import { changesChannel, recordFields } from './keys.js';
import { bindScript, loadScript, type RunScript, type ScriptContract } from './scripts.js';
import type { RedisConnection } from './target.js';

/** Redis cannot be asked, or refuses to write (503 `store-unavailable`). */
export class StoreUnavailableError extends OperatorError {}

/** A change was sent and may hold, but nothing vouches that it survives (503 `store-unavailable`). */
export class NotConfirmedError extends StoreUnavailableError {}

export interface StoreOptions {
  /** Replicas that must have every change, more if more are connected. 0: those that are connected. */
  readonly redisMinReplicas: number;
  /** Deadline of WAIT, ms; below the connection's command timeout. */
  readonly confirmTimeoutMs?: number;
}

/** Errors of the server after which nothing was written. */
const serverRefusals: Readonly<Record<string, string>> = {
  OOM: 'it is out of memory: raise maxmemory or delete data',
  MISCONF: 'it cannot write to its disk: free space or mend its persistence',
  READONLY: 'it is a replica: point TOLLKEEPER_REDIS_URL at the primary',
  NOREPLICAS: 'too few of its replicas are connected: check replication',
  BUSY: 'a script blocks it: wait or send SCRIPT KILL',
  LOADING: 'it is still loading its data: try again in a moment',
  MASTERDOWN: 'it has lost its primary: check replication',
  CLUSTERDOWN: 'its cluster is down: check the cluster',
  TRYAGAIN: 'its cluster is moving slots: try again in a moment',
  NOAUTH: 'it asks for a password: add one to TOLLKEEPER_REDIS_URL',
  NOPERM: 'its user lacks a permission: check the ACL',
  WRONGPASS: 'its password is wrong: check TOLLKEEPER_REDIS_URL',
};

/** Contract of lua/record-update.lua. */
export const recordUpdateContract: ScriptContract = {
  name: 'record-update',
  keys: ['entity'],
  argv: ['expected', 'channel', 'message', 'fieldAndValue...'],
};

/** Longer than a sidecar uses a lease, ms: `leaseMaxMs` of admission/ticket.ts, and a timer that fires early. */
const leasesEndMs = 110;

/**
 * Waits until no sidecar admits anything by a lease of a record that has been changed: leases are told to nobody, they end.
 * None begins after the change, for they are asked for under a version. By this process' own clock, whatever Redis' does.
 */
export function leasesEnd(): Promise<void> {
  return delay(leasesEndMs);
}

/** How often a change is tried again because somebody else changed the record first. */
const attemptsMax = 200;

/** Fields of a hash to write. */
export type RecordFields = Readonly<Record<string, string | number | Buffer>>;

export class Store {
  /** For reading. What is to be confirmed is written by {@link write} and {@link bind}. */
  readonly redis: RedisConnection;
  readonly #options: StoreOptions;
  /** On a Cluster. */
  readonly #nodes: ClusterNodes | undefined;
  readonly #recordUpdate: RunScript;
  /** How often each connection was lost; see the head of this file. */
  readonly #losses = new WeakMap<Redis, { count: number }>();
  /** The connections on which the confirmation under way has written, and how often each had been lost before. */
  readonly #writers = new AsyncLocalStorage<Map<Redis, number>>();

  constructor(redis: RedisConnection, options: StoreOptions) {
    this.redis = redis;
    this.#options = options;
    if (redis instanceof Cluster) this.#nodes = new ClusterNodes(redis);
    else this.#lossesOf(redis);
    this.#recordUpdate = this.bind(recordUpdateContract);
  }

  /** Binds a script. What it rejects with is translated as by {@link ask}. */
  bind(contract: ScriptContract): RunScript {
    const script = loadScript(contract);
    const bound = new WeakMap<Redis, RunScript>();
    return (scriptKeys, args) =>
      this.write(scriptKeys[0] as string, (redis) => {
        let run = bound.get(redis);
        if (run === undefined) {
          run = bindScript(redis, script);
          bound.set(redis, run);
        }
        return run(scriptKeys, args);
      });
  }

  /**
   * Writes `key`, and what shares its hash tag, where it is. What it rejects with is translated as by {@link ask}.
   * `command` sends within its turn; it may be called again when the key turned out to be elsewhere.
   */
  write<T>(key: string, command: (redis: Redis) => Promise<T>): Promise<T> {
    const writers = this.#writers.getStore();
    const noted = (redis: Redis): Promise<T> => {
      const losses = this.#lossesOf(redis).count;
      if (writers?.has(redis) === false) writers.set(redis, losses);
      return command(redis);
    };
    return this.ask(async () => {
      if (this.#nodes !== undefined) return (await this.#nodes.runAt(key, noted)).reply;
      return noted(this.redis as Redis);
    });
  }

  /**
   * Runs commands that only read, or whose effect may be repeated.
   * @throws StoreUnavailableError when Redis does not answer in time or refuses.
   */
  async ask<T>(commands: () => Promise<T>): Promise<T> {
    try {
      return await commands();
    } catch (error) {
      throw translated(error);
    }
  }

  /**
   * Makes a change and answers when it is confirmed. `change` throws to refuse; then nothing is waited for.
   * @param subject what is changed, `token 7dK…`: the error names it. Never a secret.
   * @param advice what to do when it is not confirmed, behind "look at it again and".
   * @throws NotConfirmedError when the change may hold but is not vouched for.
   */
  async confirmed<T>(subject: string, change: () => Promise<T>, advice = 'repeat the command'): Promise<T> {
    const { result, confirm } = await this.written(subject, change, advice).catch((error: unknown) => {
      // The command may have run, or may still run when a frozen server wakes up.
      if (!(error instanceof NoAnswerError)) throw error;
      throw notConfirmed(subject, advice, 'Redis gave no answer in time', error);
    });
    await confirm();
    return result;
  }

  /**
   * The first half of {@link confirmed}, for who has something to do before it waits: throws what `change` throws, and
   * answers with the result the second half, `confirm`, which throws NotConfirmedError.
   */
  async written<T>(
    subject: string,
    change: () => Promise<T>,
    advice = 'repeat the command',
  ): Promise<{ readonly result: T; readonly confirm: () => Promise<void> }> {
    const writers = new Map<Redis, number>();
    // On one server every write is on the one connection.
    if (!(this.redis instanceof Cluster)) writers.set(this.redis, this.#lossesOf(this.redis).count);
    const result = await this.#writers.run(writers, change);
    const confirm = async (): Promise<void> => {
      for (const [redis, losses] of writers) {
        let missing: string | null;
        try {
          missing = await missingCopies(redis, {
            replicasMin: this.#options.redisMinReplicas,
            timeoutMs: this.#options.confirmTimeoutMs ?? 1000,
          });
        } catch (error) {
          throw notConfirmed(subject, advice, 'Redis gave no answer when asked for its replicas', error);
        }
        if (missing !== null) throw notConfirmed(subject, advice, missing);
        if (this.#lossesOf(redis).count !== losses) {
          throw notConfirmed(subject, advice, 'the connection to Redis was lost meanwhile');
        }
      }
    };
    return { result, confirm };
  }

  /**
   * Changes the record of a token or tenant by compare-and-set: reads it, lets `change` say what becomes of it, writes
   * that if nobody was faster, else begins again. `change` may run several times; it throws to refuse.
   * Answers what `change` answered, or null when there is no such record.
   * @param message announced on the changes channel.
   */
  async replaceRecord<T>(
    key: string,
    message: string,
    change: (json: string, nextVersion: number) => { readonly fields: RecordFields; readonly result: T },
  ): Promise<T | null> {
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const [json, version] = await this.ask(() => this.redis.hmget(key, recordFields.record, recordFields.version));
      if (typeof json !== 'string' || typeof version !== 'string') return null;
      const { fields, result } = change(json, Number(version) + 1);
      const reply = await this.#recordUpdate(
        [key],
        [version, changesChannel, message, ...Object.entries(fields).flat()],
      );
      if (reply === 2) await leasesEnd();
      if (reply === 1 || reply === 2) return result;
      if (reply === -1) return null;
      // Spread those who collide.
      await delay(Math.random() * Math.min(attempt, 20));
    }
    throw new StoreUnavailableError('The record is being changed by too many at once: try again.');
  }

  /** Ends the connection. */
  async close(): Promise<void> {
    this.#nodes?.close();
    await this.redis.quit().catch(() => this.redis.disconnect());
  }

  #lossesOf(redis: Redis): { count: number } {
    let losses = this.#losses.get(redis);
    if (losses === undefined) {
      const counted = { count: 0 };
      redis.on('close', () => {
        counted.count += 1;
      });
      this.#losses.set(redis, counted);
      losses = counted;
    }
    return losses;
  }
}

function notConfirmed(subject: string, advice: string, reason: string, cause?: unknown): NotConfirmedError {
  return new NotConfirmedError(
    `The change of ${subject} is not confirmed (${reason}): it may or may not hold; check Redis and its ` +
      `replicas, look at it again and ${advice}.`,
    1,
    { cause },
  );
}

/** No answer: whether the command ran is unknown. */
class NoAnswerError extends StoreUnavailableError {}

/** Errors of ioredis that say: no answer. Anything else that is not the server's own word is a bug and stays one. */
function isNoAnswer(error: Error): boolean {
  return Object.getPrototypeOf(error) === Error.prototype || /^(Abort|MaxRetriesPerRequest)Error$/.test(error.name);
}

function translated(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof OperatorError) return error;
  if (error.name === 'ReplyError') {
    // A script that is refused whole has its code behind `ERR -`.
    const code = /^(?:ERR -)?([A-Z]+)\b/.exec(error.message)?.[1] ?? '';
    const remedy = serverRefusals[code];
    if (remedy === undefined) return error;
    return new StoreUnavailableError(`Redis refused (${code}): ${remedy}.`, 1, { cause: error });
  }
  if (!isNoAnswer(error)) return error;
  if (error.message.includes("isn't writeable") || error.message.includes("isn't ready")) {
    const text = 'Redis is not connected: check that it runs and that its address is right.';
    return new StoreUnavailableError(text, 1, { cause: error });
  }
  const text = 'Redis gave no answer in time: check that it runs and is not overloaded.';
  return new NoAnswerError(text, 1, { cause: error });
}
