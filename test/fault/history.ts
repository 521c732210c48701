/**
 * The history of a fault test: what every client saw, joined by request id with what the upstream saw, what the log
 * says and what was counted, and judged afterwards. A fault may refuse requests; it may not lose, double or invent one.
 */
import type { Redis } from 'ioredis';
import { samplesOf } from '../support/exposition.js';
import type { Requester } from '../support/fresh-connections.js';
import { type LoopClock, startLoopClock } from '../support/loop-clock.js';
import { gapOutcome } from '../../src/accesslog/entry.js';
import { readCalls } from '../../src/usage/reader.js';

/** One request as its client saw it. */
export interface Call {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  /** 0: the connection ended without an answer. */
  readonly status: number;
  /** The problem's slug, '' for an answer of the upstream. */
  readonly slug: string;
  readonly retryAfter: string;
  /** The answer was not whole when the connection ended. */
  readonly cut: boolean;
  /** What the client says of that, else ''. */
  readonly error: string;
  readonly startedAtMs: number;
  readonly tookMs: number;
  /** The same by a {@link LoopClock}: for bounds, which a busy machine must not break. */
  readonly waitedMs: number;
  /** When its answer was whole, by {@link History.now}. */
  readonly endedAt: number;
}

export interface CallOptions {
  readonly method?: 'GET' | 'POST' | 'PUT';
  readonly token?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

/**
 * Refusals that are made before the upstream is asked (of a body without an announced length `body-too-large` may come
 * later; no fault test sends one).
 */
const neverForwarded = new Set([
  'malformed-request',
  'ambiguous-credentials',
  'missing-credentials',
  'invalid-token',
  'token-expired',
  'token-revoked',
  'token-inactive',
  'invalid-signature',
  'stale-timestamp',
  'replayed-request',
  'insufficient-scope',
  'tenant-mismatch',
  'https-required',
  'address-not-allowed',
  'route-not-allowed',
  'method-not-allowed',
  'length-required',
  'body-too-large',
  'uri-too-long',
  'headers-too-large',
  'rate-limit-exceeded',
  'quota-exceeded',
  'too-many-auth-failures',
  'store-unavailable',
]);

/** What the metrics of the sidecars add up to. */
export interface Counted {
  readonly requests: number;
  readonly written: number;
  readonly dropped: number;
  readonly failed: number;
}

export interface LoggedEntry {
  readonly requestId: string;
  readonly status: number;
  readonly outcome: string;
  /** '' when the request was of no known token. */
  readonly tokenId: string;
}

export interface LogContents {
  readonly entries: readonly LoggedEntry[];
  /** Entries that the gap records stand for. */
  readonly missing: number;
  /** Calls that the usage of each token counts, by its id. */
  readonly usage: ReadonlyMap<string, number>;
}

export interface Expectation {
  /** Ids that the upstream may have got twice: an idempotent request on a connection that was stale. */
  readonly mayRepeat?: boolean;
  /**
   * At most this many entries are gone: not written when a sidecar was ended by force, or acknowledged by a primary and not
   * replicated when that was killed.
   */
  readonly lostEntriesMax?: number;
  /** A worker was ended by force: what it counted after the last scrape is gone. */
  readonly countsMayLack?: boolean;
}

export class History {
  readonly calls: Call[] = [];
  /** How often the upstream got each id. */
  readonly hits = new Map<string, number>();
  readonly #prefix = `h${Date.now().toString(36)}${Math.floor(Math.random() * 1e6).toString(36)}`;
  readonly #clock: LoopClock = startLoopClock();
  #count = 0;

  /** Sends one request over a pool of the sidecar's, or otherwise, and keeps what came of it; never rejects. */
  async call(pool: Requester, path: string, options: CallOptions = {}): Promise<Call> {
    const { method = 'GET', token, headers, body } = options;
    this.#count += 1;
    const id = `${this.#prefix}-${this.#count}`;
    const startedAtMs = performance.now();
    const waitedFrom = this.#clock.now();
    let status = 0;
    let slug = '';
    let retryAfter = '';
    let cut = false;
    let error = '';
    try {
      const answer = await pool.request({
        method,
        path,
        headers: {
          'x-request-id': id,
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...headers,
        },
        body: body ?? null,
      });
      status = answer.statusCode;
      retryAfter = String(answer.headers['retry-after'] ?? '');
      if (answer.headers['x-request-id'] !== id) slug = `wrong request id ${String(answer.headers['x-request-id'])}`;
      const isProblem = String(answer.headers['content-type']).startsWith('application/problem+json');
      const text = await answer.body.text();
      if (isProblem) slug = slugIn(text);
    } catch (caught) {
      cut = true;
      error = String(caught);
    }
    const call = {
      id,
      method,
      path,
      status,
      slug,
      retryAfter,
      cut,
      error,
      startedAtMs,
      tookMs: performance.now() - startedAtMs,
      waitedMs: this.#clock.now() - waitedFrom,
      endedAt: this.#clock.now(),
    };
    this.calls.push(call);
    return call;
  }

  /** Ms by the {@link LoopClock} of all calls. */
  now(): number {
    return this.#clock.now();
  }

  /** To be told of each request by the upstream. */
  arrived(id: string): void {
    this.hits.set(id, (this.hits.get(id) ?? 0) + 1);
  }

  /** See {@link outcomesOf}. */
  outcomes(): Record<string, number> {
    return outcomesOf(this.calls);
  }

  /** Everything that does not add up, one line each; empty is a pass. */
  faults(counted: Counted | undefined, log: LogContents, expected: Expectation = {}): string[] {
    return [
      ...this.#upstreamFaults(expected),
      ...this.#logFaults(log, expected),
      ...this.#countFaults(counted, log, expected),
      ...usageFaults(log),
    ];
  }

  #upstreamFaults({ mayRepeat = false }: Expectation): string[] {
    const faults: string[] = [];
    const known = new Set(this.calls.map(({ id }) => id));
    for (const [id, count] of this.hits) {
      if (!known.has(id)) faults.push(`the upstream got ${id}, which no client sent`);
      if (count > (mayRepeat ? 2 : 1)) faults.push(`the upstream got ${id} ${count} times`);
    }
    for (const { id, method, status, slug } of this.calls) {
      const hits = this.hits.get(id) ?? 0;
      const isAnswer = status > 0 && slug === '';
      if (isAnswer && hits === 0) faults.push(`${id} was answered ${status} and the upstream never got it`);
      if (neverForwarded.has(slug) && hits > 0) faults.push(`${id} was refused (${slug}) and the upstream got it`);
      if (method === 'POST' && hits > 1) faults.push(`${id} is a POST and ran ${hits} times`);
      if (slug.startsWith('wrong')) faults.push(`${id}: ${slug}`);
    }
    return faults;
  }

  #logFaults({ entries, missing }: LogContents, { lostEntriesMax = 0 }: Expectation): string[] {
    const faults: string[] = [];
    const byId = new Map<string, LoggedEntry>();
    const calls = new Map(this.calls.map((call) => [call.id, call]));
    for (const entry of entries) {
      const { requestId, status } = entry;
      const call = calls.get(requestId);
      if (byId.has(requestId)) faults.push(`${requestId} is in the log twice`);
      byId.set(requestId, entry);
      if (call === undefined) faults.push(`${requestId} is in the log and no client sent it`);
      else if (call.status > 0 && call.status !== status) {
        faults.push(`${requestId} was answered ${call.status} and logged ${status}`);
      }
    }
    const unlogged = this.calls.filter(({ id, status }) => status > 0 && !byId.has(id));
    if (unlogged.length > missing + lostEntriesMax) {
      faults.push(
        `${unlogged.length} answers are not in the log (${unlogged[0]?.id}), ${missing} are said to be missing`,
      );
    }
    return faults;
  }

  #countFaults(counted: Counted | undefined, log: LogContents, { lostEntriesMax = 0 }: Expectation): string[] {
    if (counted === undefined) return [];
    const faults: string[] = [];
    const { requests, written, dropped, failed } = counted;
    const answered = this.calls.filter(({ status }) => status > 0).length;
    if (requests < answered || requests > this.calls.length) {
      faults.push(`${requests} requests were counted; ${answered} were answered of ${this.calls.length} sent`);
    }
    if (written + dropped + failed !== requests) {
      faults.push(
        `${written} written + ${dropped} dropped + ${failed} failed log entries are not ${requests} requests`,
      );
    }
    const gone = written - log.entries.length;
    if (gone < 0 || gone > lostEntriesMax)
      faults.push(`${written} entries were counted, ${log.entries.length} are there`);
    if (dropped !== log.missing) faults.push(`${dropped} entries were dropped, the gap records say ${log.missing}`);
    return faults;
  }
}

/** Usage is counted with the entries, in one script: each entry of a token is one call of it. */
function usageFaults({ entries, missing, usage }: LogContents): string[] {
  if (missing > 0) return [];
  const uses = new Map<string, number>();
  for (const { tokenId, status, outcome } of entries) {
    // A 401 of Tollkeeper's own is no use: whoever sent it has not shown that the token is theirs.
    if (tokenId === '' || (status === 401 && outcome !== 'ok')) continue;
    uses.set(tokenId, (uses.get(tokenId) ?? 0) + 1);
  }
  return [...new Set([...uses.keys(), ...usage.keys()])]
    .filter((id) => (uses.get(id) ?? 0) !== (usage.get(id) ?? 0))
    .map((id) => `token ${id} has ${uses.get(id) ?? 0} entries and its usage counts ${usage.get(id) ?? 0}`);
}

/** How many calls ended so: by slug, `ok`, `cut` or `no-answer`. */
export function outcomesOf(calls: readonly Call[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { status, slug, cut } of calls) {
    const outcome = status === 0 ? 'no-answer' : cut ? 'cut' : slug === '' ? 'ok' : slug;
    counts[outcome] = (counts[outcome] ?? 0) + 1;
  }
  return counts;
}

function slugIn(text: string): string {
  try {
    return String((JSON.parse(text) as { type?: unknown }).type).replace('https://tollkeeper.dev/problems/', '');
  } catch {
    return 'unreadable problem document';
  }
}

/** The counters of one exposition that the identities speak of. */
export function countedIn(exposition: string): Counted {
  const samples = samplesOf(exposition);
  const sum = (start: string): number =>
    [...samples].reduce((total, [name, value]) => (name.startsWith(start) ? total + value : total), 0);
  const entries = (result: string): number => sum(`tollkeeper_log_entries_total{result="${result}"`);
  return {
    requests: sum('tollkeeper_requests_total{'),
    written: entries('written'),
    dropped: entries('dropped'),
    failed: entries('failed'),
  };
}

/** Everything in the log streams of all tenants and days, and the usage of all tokens. */
export async function readLog(redis: Redis): Promise<LogContents> {
  const entries: LoggedEntry[] = [];
  let missing = 0;
  for (const key of await redis.keys('log:*')) {
    if ((await redis.type(key)) !== 'stream') continue;
    for await (const fields of fieldsOf(redis, key)) {
      const entry: Record<string, string> = {};
      for (let at = 0; at < fields.length; at += 2) entry[fields[at] as string] = fields[at + 1] as string;
      const { requestId = '', outcome = '', tokenId = '' } = entry;
      if (outcome === gapOutcome) missing += Number(entry.dropped);
      else entries.push({ requestId, status: Number(entry.status), outcome, tokenId });
    }
  }
  const usage = new Map<string, number>();
  for (const key of [...(await redis.keys('tk:recent:{*}:*')), ...(await redis.keys('tk:usage:{*}:*'))]) {
    const [, tenant = '', id = ''] = /\{(.*)\}:(.*)$/.exec(key) ?? [];
    usage.set(id, (await readCalls(redis, tenant, [id]))[0] ?? 0);
  }
  return { entries, missing, usage };
}

async function* fieldsOf(redis: Redis, stream: string): AsyncGenerator<string[]> {
  let from = '-';
  for (;;) {
    const page = await redis.xrange(stream, from, '+', 'COUNT', 5000);
    for (const [, fields] of page) yield fields;
    const last = page.at(-1);
    if (last === undefined) return;
    from = `(${last[0]}`;
  }
}
