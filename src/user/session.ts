/**
 * Sessions of people who logged in. The browser has the id, Redis its SHA-256 alone. A session ends when it is idle, at an
 * absolute time, at its logout, and when its user's `sessionEpoch` is another one (new password, logout everywhere).
 * The end of a session is confirmed as every change is; that it was opened or used is not: a failover that takes it away
 * costs a login.
 */
import { createHash, randomBytes } from 'node:crypto';
import { keys } from '../redis/keys.js';
import type { Store } from '../redis/store.js';
import { RecordReader } from '../tenant/record-reader.js';
import type { UserRecord } from './user.js';

const sessionsMax = 20;
const userAgentLengthMax = 200;

export interface SessionOptions {
  /** Ends so long after its last request, ms. */
  readonly idleMs: number;
  /** Ends so long after its login, ms. */
  readonly absoluteMs: number;
  /** ms since 1970. */
  readonly now?: () => number;
}

export interface Session {
  /** SHA-256 of its id, hex: what it may be called by. */
  readonly digest: string;
  readonly user: string;
  readonly uid: string;
  readonly epoch: string;
  /** Time of the login, ms since 1970. */
  readonly createdAt: number;
  /** ms since 1970. */
  readonly endsAt: number;
  readonly address: string;
  readonly userAgent: string;
}

export class Sessions {
  readonly #store: Store;
  readonly #options: SessionOptions;
  readonly #now: () => number;

  constructor(store: Store, options: SessionOptions) {
    this.#store = store;
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  /**
   * Opens a session and answers its id, 256 random bits: for the cookie alone. The user's oldest ones make place, and so
   * does `replaced`, the one that the browser had.
   */
  async open(
    user: UserRecord,
    address: string,
    userAgent: string,
    replaced?: Session,
  ): Promise<{ id: string; session: Session }> {
    const { redis } = this.#store;
    const id = randomBytes(32).toString('base64url');
    const createdAt = this.#now();
    const session: Session = {
      digest: digestOf(id),
      user: user.name,
      uid: user.uid,
      epoch: user.sessionEpoch,
      createdAt,
      endsAt: createdAt + this.#options.absoluteMs,
      address,
      userAgent: userAgent.slice(0, userAgentLengthMax),
    };
    const index = keys.userSessions(user.name);
    if (replaced !== undefined) await this.#delete(replaced);
    await this.#store.ask(async () => {
      await redis.set(keys.session(session.digest), JSON.stringify(session), 'PX', this.#idleMs());
      await redis.zadd(index, session.endsAt, session.digest);
      await redis.zremrangebyscore(index, '-inf', createdAt);
      await redis.pexpire(index, this.#options.absoluteMs);
      const surplus = await redis.zrange(index, 0, String(-sessionsMax - 1));
      for (const digest of surplus) await redis.del(keys.session(digest));
      if (surplus.length > 0) await redis.zrem(index, ...surplus);
    });
    return { id, session };
  }

  /** The session of an id, and it is no longer idle; undefined when it has ended. Whose it is has yet to be looked up. */
  resume(id: string): Promise<Session | undefined> {
    return this.#read(id, (key) => this.#store.redis.getex(key, 'PX', this.#idleMs()));
  }

  /** As {@link resume}, and it goes on being idle. */
  peek(id: string): Promise<Session | undefined> {
    return this.#read(id, (key) => this.#store.redis.get(key));
  }

  /** Ends one session. @throws NotConfirmedError when a failover could bring it back. */
  async end(session: Session): Promise<void> {
    await this.#store.confirmed(
      `a session of ${session.user}`,
      () => this.#delete(session),
      'log out everywhere if it is still there',
    );
  }

  /** Those of a user that have not ended, newest first. */
  async list({ name, uid, sessionEpoch }: UserRecord): Promise<Session[]> {
    const { redis } = this.#store;
    const digests = await this.#store.ask(() => redis.zrevrange(keys.userSessions(name), 0, -1));
    const found = await this.#store.ask(() => Promise.all(digests.map((digest) => redis.get(keys.session(digest)))));
    return found
      .filter((json) => json !== null)
      .map(decode)
      .filter((session) => session.uid === uid && session.epoch === sessionEpoch && session.endsAt > this.#now());
  }

  async #read(id: string, get: (key: string) => Promise<string | null>): Promise<Session | undefined> {
    if (!/^[\w-]{43}$/.test(id)) return undefined;
    const json = await this.#store.ask(() => get(keys.session(digestOf(id))));
    if (json === null) return undefined;
    const session = decode(json);
    return session.endsAt > this.#now() ? session : undefined;
  }

  async #delete({ digest, user }: Session): Promise<void> {
    const index = keys.userSessions(user);
    await this.#store.write(keys.session(digest), (node) => node.del(keys.session(digest)));
    await this.#store.write(index, (node) => node.zrem(index, digest));
  }

  #idleMs(): number {
    return Math.min(this.#options.idleMs, this.#options.absoluteMs);
  }
}

function digestOf(id: string): string {
  return createHash('sha256').update(id).digest('hex');
}

function decode(json: string): Session {
  const read = new RecordReader('session', json);
  return {
    digest: read.text('digest'),
    user: read.text('user'),
    uid: read.text('uid'),
    epoch: read.text('epoch'),
    createdAt: read.integer('createdAt'),
    endsAt: read.integer('endsAt'),
    address: read.text('address'),
    userAgent: read.text('userAgent'),
  };
}
