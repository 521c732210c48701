/**
 * Who may still be served while Redis is away, and how much: tokens that Redis admitted shortly before, within their
 * limits as this process counts them.
 *
 * An admission tells one limit, the one with the smallest share left, so no limit of the token or its tenant had used
 * more than that share. All of it counts as used until one whole window has passed since; what is served meanwhile
 * counts in ninths of a window and an eighth: nine parts of an eighth cover every window of that length, wherever it
 * begins. So in no window more is served than the limit allows, by this process; often it is less.
 *
 * What is known is bounded (least recently used goes first), holds for the version it was told for, and is forgotten
 * when a change is heard. What was served is not forgotten then: Redis that comes and goes grants no second budget.
 * Times are monotonic ms. Hot path: only `admitted` and `leased`, and only where `serve-known` is asked for.
 */
import { LRUCache } from 'lru-cache';
import { isQuota, type Limit } from './limit.js';

const partsOfWindow = 8;
const dayMs = 86_400_000;
/** A share is a quotient: what is less than this above a whole unit is that unit. */
const rounding = 1e-6;
/** No month is longer. */
const monthMs = 31 * dayMs;

/** What of an admission ticket says whom it is about. */
export interface OutageSubject {
  readonly tokenKey: string;
  readonly tokenVersion: number;
  readonly tenantKey: string;
  readonly tenantVersion: number;
  /** Units. */
  readonly cost: number;
}

/** What a token or a tenant was last admitted with, and what it was served without Redis. */
interface Known {
  version: number;
  admittedAtMs: number;
  /** No limit had used a larger share of its capacity, 0 to 1. */
  usedShare: number;
  /** Made when it is first served, one a limit. */
  windows: readonly LocalWindow[];
  windowsVersion: number;
}

/** `served`; `unknown`: Redis has to be asked; else the ms until the request could be served. */
export type OutageVerdict = 'served' | 'unknown' | number;

export class OutageLimits {
  readonly #known: LRUCache<string, Known>;
  readonly #serveMaxMs: number;

  /** `entriesMax` bounds tokens and tenants together; `serveMaxMs`: longest time since the last admission. */
  constructor(entriesMax: number, serveMaxMs: number) {
    this.#known = new LRUCache({ max: entriesMax });
    this.#serveMaxMs = serveMaxMs;
  }

  get size(): number {
    return this.#known.size;
  }

  /** Redis admitted `subject`: no limit of its token or tenant has used a larger share than `usedShare` now. */
  admitted(subject: OutageSubject, usedShare: number, nowMs: number): void {
    this.#note(subject.tokenKey, subject.tokenVersion, usedShare, nowMs);
    this.#note(subject.tenantKey, subject.tenantVersion, usedShare, nowMs);
  }

  /**
   * A lease admitted `subject`. `usedShare` is as for `admitted`, with all of the lease used, and some time old: what
   * Redis told since may be more.
   */
  leased(subject: OutageSubject, usedShare: number, nowMs: number): void {
    this.#raise(subject.tokenKey, subject.tokenVersion, usedShare, nowMs);
    this.#raise(subject.tenantKey, subject.tenantVersion, usedShare, nowMs);
  }

  /** A token or tenant changed: it is not served again before Redis has admitted it as it is now. */
  forget(key: string): void {
    const known = this.#known.peek(key);
    if (known !== undefined) known.version = -1;
  }

  /** Serves and charges `subject`, if it may be; the limits are those of its token and its tenant. */
  serve(
    subject: OutageSubject,
    tokenLimits: readonly Limit[],
    tenantLimits: readonly Limit[],
    nowMs: number,
  ): OutageVerdict {
    const token = this.#find(subject.tokenKey, subject.tokenVersion, nowMs);
    const tenant = this.#find(subject.tenantKey, subject.tenantVersion, nowMs);
    if (token === undefined || tenant === undefined) return 'unknown';
    const { cost } = subject;
    const windows = [...windowsOf(token, tokenLimits), ...windowsOf(tenant, tenantLimits)];
    const waitMs = Math.max(0, ...windows.map((window) => window.waitMs(cost, nowMs)));
    if (waitMs > 0) return waitMs;
    for (const window of windows) window.charge(cost, nowMs);
    return 'served';
  }

  #note(key: string, version: number, usedShare: number, nowMs: number): void {
    const known = this.#known.get(key);
    if (known === undefined) {
      this.#known.set(key, { version, admittedAtMs: nowMs, usedShare, windows: [], windowsVersion: -1 });
      return;
    }
    known.version = version;
    known.admittedAtMs = nowMs;
    known.usedShare = usedShare;
  }

  #raise(key: string, version: number, usedShare: number, nowMs: number): void {
    const known = this.#known.get(key);
    if (known === undefined) return this.#note(key, version, usedShare, nowMs);
    known.admittedAtMs = nowMs;
    known.usedShare = Math.max(known.usedShare, usedShare);
  }

  #find(key: string, version: number, nowMs: number): Known | undefined {
    const known = this.#known.get(key);
    if (known === undefined || known.version !== version) return undefined;
    return nowMs - known.admittedAtMs <= this.#serveMaxMs ? known : undefined;
  }
}

/** One limit as this process counts it. */
class LocalWindow {
  readonly lengthMs: number;
  readonly #known: Known;
  readonly #capacity: number;
  readonly #partMs: number;
  /** Units served in each part, in a ring; `#newest` is the number of the newest part. */
  readonly #served: Float64Array;
  #newest = 0;

  /** `before`: the same window under an earlier version of the record; what it has counted still counts. */
  constructor(known: Known, capacity: number, lengthMs: number, before: LocalWindow | undefined) {
    this.#known = known;
    this.#capacity = capacity;
    this.lengthMs = lengthMs;
    this.#partMs = lengthMs / partsOfWindow;
    this.#served = before === undefined ? new Float64Array(partsOfWindow + 1) : Float64Array.from(before.#served);
    this.#newest = before === undefined ? 0 : before.#newest;
  }

  /** Until `units` could be served, ms; 0: now. A request that could never be is told one whole window. */
  waitMs(units: number, nowMs: number): number {
    this.#moveOn(nowMs);
    if (this.#usedAt(nowMs) + units <= this.#capacity) return 0;
    for (let part = 1; part <= partsOfWindow + 1; part += 1) {
      const atMs = (this.#newest + part) * this.#partMs;
      if (this.#usedAt(atMs) + units <= this.#capacity) return atMs - nowMs;
    }
    return this.lengthMs;
  }

  charge(units: number, nowMs: number): void {
    this.#moveOn(nowMs);
    const at = this.#newest % this.#served.length;
    this.#served[at] = (this.#served[at] as number) + units;
  }

  /** Units that count at a time, now or to come. */
  #usedAt(atMs: number): number {
    const { admittedAtMs, usedShare } = this.#known;
    let used = atMs < admittedAtMs + this.lengthMs ? Math.ceil(this.#capacity * usedShare - rounding) : 0;
    const oldest = Math.floor(atMs / this.#partMs) - partsOfWindow;
    for (let part = Math.max(oldest, this.#newest - partsOfWindow); part <= this.#newest; part += 1) {
      used += this.#served[part % this.#served.length] ?? 0;
    }
    return used;
  }

  #moveOn(nowMs: number): void {
    const newest = Math.floor(nowMs / this.#partMs);
    const first = Math.max(this.#newest + 1, newest - partsOfWindow);
    for (let part = first; part <= newest; part += 1) this.#served[part % this.#served.length] = 0;
    this.#newest = Math.max(this.#newest, newest);
  }
}

function windowsOf(known: Known, limits: readonly Limit[]): readonly LocalWindow[] {
  if (known.windowsVersion === known.version) return known.windows;
  known.windows = limits.map((limit) => {
    const [capacity, lengthMs] = sizeOf(limit);
    return new LocalWindow(
      known,
      capacity,
      lengthMs,
      known.windows.find((window) => window.lengthMs === lengthMs),
    );
  });
  known.windowsVersion = known.version;
  return known.windows;
}

/** Units in how many ms. A bucket of few units is a short window: as many as it holds, while they come back. */
function sizeOf(limit: Limit): readonly [capacity: number, lengthMs: number] {
  if (isQuota(limit)) return [limit.limit, limit.period === 'day' ? dayMs : monthMs];
  const capacity = limit.algorithm === 'token-bucket' ? Math.min(limit.burst ?? limit.limit, limit.limit) : limit.limit;
  return [capacity, (limit.window * 1000 * capacity) / limit.limit];
}
