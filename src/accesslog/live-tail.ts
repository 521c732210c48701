/**
 * The access log as it is written, for many readers at once: one blocking connection reads each stream once, whoever
 * listens.
 *
 * Bounded: entries for a reader wait in a queue of {@link queueMax}; a reader that is slower than the log loses what
 * waits, is told how many, and goes on with what is new. Neither Redis nor the other readers notice.
 * Failure: while Redis is away the readers wait, and go on where they were.
 */
import type { RedisConnection } from '../redis/target.js';
import { dayName, dayOf } from './entry.js';
import { currentStreams, type CurrentStream, readNew, readyOrAborted } from './follow.js';
import { compareIds, entryOf, type LogFilter, type LoggedEntry, matches, streamOf } from './logged-entry.js';

/**
 * What a reader gets: an entry and where it stands, or how many it was too slow for; null: it was away so long that they
 * were not counted.
 */
export type TailItem =
  | { readonly entry: LoggedEntry; readonly position: TailPosition }
  | { readonly skipped: number | null };

/** An entry's place; a reader that comes back goes on behind it. */
export interface TailPosition {
  readonly day: number;
  readonly id: string;
}

export interface TailQuery {
  /** Slug, '' for requests of no known tenant. */
  readonly tenant: string;
  readonly filter: LogFilter;
  /** The last entry that the reader has seen; what came since is read first, up to {@link catchUpMax} entries. */
  readonly after?: TailPosition | undefined;
  /** Ends the reading. */
  readonly signal: AbortSignal;
}

/** Entries that wait for one reader. */
const queueMax = 1000;
/** Entries of one reply. */
const readMax = 250;
/** Entries read for one that comes back; what is older it finds by page. */
const catchUpMax = 5000;
/** Below the command timeout of the connection; a new reader waits for its stream that long at most. */
const blockMs = 500;

/** Entries for one reader, until it takes them. */
class Queue {
  readonly tenant: string;
  readonly #filter: LogFilter;
  #items: TailItem[] = [];
  #skipped = 0;
  #failure: unknown;
  #ended = false;
  #wake: (() => void) | undefined;

  constructor(tenant: string, filter: LogFilter) {
    this.tenant = tenant;
    this.#filter = filter;
  }

  put(entry: LoggedEntry, position: TailPosition): void {
    if (!matches(entry, this.#filter)) return;
    if (this.#items.length >= queueMax) {
      this.#skipped += this.#items.length;
      this.#items = [];
    }
    this.#items.push({ entry, position });
    this.#wake?.();
  }

  fail(error: unknown): void {
    this.#failure = error;
    this.#wake?.();
  }

  get ended(): boolean {
    return this.#ended;
  }

  readonly end = (): void => {
    this.#ended = true;
    this.#wake?.();
  };

  /** What has come, at least one item; nothing when the reading has ended. */
  async take(): Promise<TailItem[]> {
    while (this.#items.length === 0 && !this.#ended) {
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
    if (this.#ended) return [];
    const items = this.#items;
    this.#items = [];
    if (this.#skipped > 0) {
      items.unshift({ skipped: this.#skipped });
      this.#skipped = 0;
    }
    return items;
  }
}

export class LiveTail {
  readonly #commands: RedisConnection;
  readonly #openBlocking: () => RedisConnection;
  readonly #queues = new Set<Queue>();
  /** Last id read of each stream. */
  readonly #positions = new Map<string, string>();
  #reading: Promise<void> | undefined;
  readonly #closing = new AbortController();

  /** `openBlocking` opens a connection of its own for each time that there are readers; `commands` must not block. */
  constructor(commands: RedisConnection, openBlocking: () => RedisConnection) {
    this.#commands = commands;
    this.#openBlocking = openBlocking;
  }

  /** Readers at this moment. */
  get readers(): number {
    return this.#queues.size;
  }

  /**
   * Entries from now on, or from `after` on, until the signal is aborted or {@link close}.
   * @throws what Redis says when the stream cannot be read (a key that is no stream, no permission).
   */
  async *read(query: TailQuery): AsyncGenerator<TailItem> {
    const queue = new Queue(query.tenant, query.filter);
    const ends = await this.#endsOf(query.tenant);
    // All at once from here: the reading forgets the position of a stream that has no reader.
    for (const [key, end] of ends) {
      if (!this.#positions.has(key)) this.#positions.set(key, end);
    }
    this.#queues.add(queue);
    this.#reading ??= this.#read();
    query.signal.addEventListener('abort', queue.end, { once: true });
    if (query.signal.aborted || this.#closing.signal.aborted) queue.end();
    try {
      const seen = new Map<number, string>();
      if (query.after !== undefined) yield* this.#catchUp(query, query.after, seen, queue);
      while (!queue.ended) {
        for (const item of await queue.take()) {
          if (queue.ended) return;
          if ('entry' in item) {
            const last = seen.get(item.position.day);
            if (last !== undefined && compareIds(item.position.id, last) <= 0) continue;
          }
          yield item;
        }
      }
    } finally {
      query.signal.removeEventListener('abort', queue.end);
      this.#queues.delete(queue);
    }
  }

  /** Ends every reader. */
  async close(): Promise<void> {
    this.#closing.abort();
    for (const queue of this.#queues) queue.end();
    await this.#reading;
  }

  /** What was written since `after`, today and yesterday. Notes in `seen` the last id that it read of a day. */
  async *#catchUp(
    { tenant, filter }: TailQuery,
    after: TailPosition,
    seen: Map<number, string>,
    queue: Queue,
  ): AsyncGenerator<TailItem> {
    const today = dayOf(Date.now());
    if (after.day < today - 1) {
      yield { skipped: null };
      return;
    }
    let left = catchUpMax;
    for (let day = after.day; day <= today; day += 1) {
      let from = day === after.day ? `(${after.id}` : '-';
      for (;;) {
        const page = await this.#commands.xrange(streamOf(tenant, day), from, '+', 'COUNT', readMax);
        for (const [id, fields] of page) {
          if (queue.ended) return;
          seen.set(day, id);
          from = `(${id}`;
          const entry = entryOf(id, fields);
          if (matches(entry, filter)) yield { entry, position: { day, id } };
        }
        left -= page.length;
        if (page.length < readMax) break;
        if (left <= 0) {
          yield { skipped: null };
          return;
        }
      }
    }
  }

  /** Where the tenant's streams end now: one that nobody reads yet is read from there on. */
  #endsOf(tenant: string): Promise<[key: string, end: string][]> {
    return Promise.all(
      currentStreams([tenant], Date.now()).map(async ({ key }): Promise<[string, string]> => {
        const [newest] = await this.#commands.xrevrange(key, '+', '-', 'COUNT', 1);
        return [key, newest?.[0] ?? '0-0'];
      }),
    );
  }

  async #read(): Promise<void> {
    const redis = this.#openBlocking();
    try {
      while (this.#queues.size > 0 && !this.#closing.signal.aborted) await this.#readOnce(redis);
    } catch (error) {
      for (const queue of this.#queues) queue.fail(error);
    } finally {
      redis.disconnect();
      this.#positions.clear();
      this.#reading = undefined;
    }
  }

  async #readOnce(redis: RedisConnection): Promise<void> {
    const tenants = [...new Set([...this.#queues].map(({ tenant }) => tenant))];
    const streams = currentStreams(tenants, Date.now());
    for (const known of this.#positions.keys()) {
      if (!streams.some(({ key }) => key === known)) this.#positions.delete(known);
    }
    // A stream of a day that has just begun is read from its beginning.
    const positionOf = ({ key }: CurrentStream): string => this.#positions.get(key) ?? '0-0';
    for (const stream of streams) this.#positions.set(stream.key, positionOf(stream));
    try {
      for (const { stream, records } of await readNew(redis, streams, positionOf, blockMs)) {
        const queues = [...this.#queues].filter((queue) => queue.tenant === stream.tenant);
        for (const [id, fields] of records) {
          const entry = entryOf(id, fields);
          for (const queue of queues) queue.put(entry, { day: stream.day, id });
          this.#positions.set(stream.key, id);
        }
      }
    } catch (error) {
      if (error instanceof Error && error.name === 'ReplyError' && !/^(LOADING|BUSY|MASTERDOWN)/.test(error.message)) {
        throw error;
      }
      await readyOrAborted(redis, this.#closing.signal);
    }
  }
}

/** `2026-03-04/1772625600000-0`: an entry's place as text, for the `id` of a server-sent event. */
export function positionText({ day, id }: TailPosition): string {
  return `${dayName(day)}/${id}`;
}

/** The place in such a text, undefined when it is none. */
export function parsePosition(text: string): TailPosition | undefined {
  const [, date, id] = /^(\d{4}-\d\d-\d\d)\/(\d{1,15}-\d{1,15})$/.exec(text) ?? [];
  const day = dayOf(Date.parse(`${date ?? ''}T00:00:00Z`));
  return id === undefined || Number.isNaN(day) ? undefined : { day, id };
}
