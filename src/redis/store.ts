/**
 * The control plane's access to Redis: scripts on one connection, and the promise that a change which was reported
 * as done survives a failover.
 *
 * Purpose: a lifecycle write (create, rotate, revoke, …) is answered only when it is confirmed.
 * Algorithm: the write, then WAIT for every replica in service (at least `redisMinReplicas`), then WAITAOF where
 *   the server has one (7.2) and fsyncs its append-only file.
 * Concurrency: WAIT speaks of the writes of its own connection. Should the connection have been replaced in between,
 *   a WAIT on the new one would confirm nothing: the connection's generation is compared before and after.
 * Failure: not confirmed is an error although the write may hold; asking again is safe for every operation but
 *   create and rotate, whose secret is then lost and must be drawn again.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { OperatorError } from '../core/failure.js';
import { changesChannel, recordFields } from './keys.js';
import { bindScript, loadScript, type RunScript, type ScriptContract } from './scripts.js';

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

/** How often a change is tried again because somebody else changed the record first. */
const attemptsMax = 200;

/** Fields of a hash to write. */
export type RecordFields = Readonly<Record<string, string | number | Buffer>>;

export class Store {
  readonly redis: Redis;
  readonly #options: StoreOptions;
  readonly #recordUpdate: RunScript;
  /** Counts the connections that were lost; see the head of this file. */
  #generation = 0;

  constructor(redis: Redis, options: StoreOptions) {
    this.redis = redis;
    this.#options = options;
    this.#recordUpdate = this.bind(recordUpdateContract);
    redis.on('close', () => {
      this.#generation += 1;
    });
  }

  /** Binds a script. What it rejects with is translated as by {@link ask}. */
  bind(contract: ScriptContract): RunScript {
    const run = bindScript(this.redis, loadScript(contract));
    return (scriptKeys, args) => this.ask(() => run(scriptKeys, args));
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
    const generation = this.#generation;
    const notConfirmed = (reason: string, cause?: unknown): NotConfirmedError =>
      new NotConfirmedError(
        `The change of ${subject} is not confirmed (${reason}): it may or may not hold; check Redis and its ` +
          `replicas, look at it again and ${advice}.`,
        1,
        { cause },
      );
    let result: T;
    try {
      result = await change();
    } catch (error) {
      // The command may have run, or may still run when a frozen server wakes up.
      if (error instanceof NoAnswerError) throw notConfirmed('Redis gave no answer in time', error);
      throw error;
    }
    let missing: string | null;
    try {
      missing = await this.#missingCopies();
    } catch (error) {
      throw notConfirmed('Redis gave no answer when asked for its replicas', error);
    }
    if (missing !== null) throw notConfirmed(missing);
    if (this.#generation !== generation) throw notConfirmed('the connection to Redis was lost meanwhile');
    return result;
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
      if (reply === 1) return result;
      if (reply === -1) return null;
      // Spread those who collide.
      await delay(Math.random() * Math.min(attempt, 20));
    }
    throw new StoreUnavailableError('The record is being changed by too many at once: try again.');
  }

  /** Ends the connection. */
  async close(): Promise<void> {
    await this.redis.quit().catch(() => this.redis.disconnect());
  }

  /** Waits for the copies that must have the writes of this connection; answers what is missing, or null. */
  async #missingCopies(): Promise<string | null> {
    const timeoutMs = this.#options.confirmTimeoutMs ?? 1000;
    const state = parseServerState(String(await this.redis.call('INFO', 'server', 'replication', 'persistence')));
    const needed = Math.max(this.#options.redisMinReplicas, state.replicasOnline);
    if (needed > 0) {
      const reached = await this.redis.wait(needed, timeoutMs);
      if (reached < needed) return `${reached} of ${needed} replicas had it after ${timeoutMs} ms`;
    }
    if (!state.hasWaitAof || !state.aofEnabled || !(await this.#fsyncs())) return null;
    // With `appendfsync everysec` the next fsync is up to a second away.
    const reply = await this.redis.call('WAITAOF', '1', '0', String(timeoutMs + 800));
    return Array.isArray(reply) && Number(reply[0]) >= 1 ? null : 'it is not yet on disk';
  }

  /** `appendfsync no` leaves the time of writing to the kernel: there is nothing to wait for. */
  async #fsyncs(): Promise<boolean> {
    // Managed servers forbid CONFIG; the default is everysec.
    const reply = await this.redis.config('GET', 'appendfsync').catch(() => []);
    return !(Array.isArray(reply) && reply[1] === 'no');
  }
}

interface ServerState {
  readonly replicasOnline: number;
  readonly aofEnabled: boolean;
  readonly hasWaitAof: boolean;
}

/** What INFO says of copies. A replica that is still receiving its first copy can confirm nothing and is not counted. */
export function parseServerState(info: string): ServerState {
  const [, major = '0', minor = '0'] = /^redis_version:(\d+)\.(\d+)/m.exec(info) ?? [];
  return {
    replicasOnline: info.match(/^slave\d+:.*\bstate=online\b/gm)?.length ?? 0,
    aofEnabled: /^aof_enabled:1/m.test(info),
    hasWaitAof: Number(major) > 7 || (Number(major) === 7 && Number(minor) >= 2),
  };
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
  if (error.message.includes("isn't writeable")) {
    const text = 'Redis is not connected: check that it runs and that TOLLKEEPER_REDIS_URL is right.';
    return new StoreUnavailableError(text, 1, { cause: error });
  }
  const text = 'Redis gave no answer in time: check that it runs and is not overloaded.';
  return new NoAnswerError(text, 1, { cause: error });
}
