/**
 * What the calls of one batch add to the usage of their tokens and tenants: summed here, so that Redis adds one small
 * map for each token, tenant and hour of a batch and not one for each call.
 *
 * Hot path: `add` runs once a log entry. No object, string or closure is made except for the first call of a token in a
 * batch; hours are compared as numbers.
 */
import { bucketOf } from './histogram.js';

/** What is counted of a request; times in Unix ms, durations in ms. */
export interface Call {
  readonly timeMs: number;
  readonly tenant: string;
  readonly tokenId: string;
  readonly status: number;
  readonly outcome: string;
  readonly durationMs: number;
  readonly route: string;
  readonly ip: string;
  readonly userAgent: string;
}

export const hourMs = 3_600_000;

/** The calls of one token, or of all tokens of a tenant, in one hour. */
export class Tally {
  readonly tenant: string;
  /** '' for the tenant as a whole. */
  readonly tokenId: string;
  /** Hours since 1970, UTC. */
  readonly hour: number;
  calls = 0;
  /** What the sums of the hour grow by (src/usage/sums.ts): a name, its number, a name, … */
  readonly sums: Counts<string | number> = [];
  /** Calls by route, as {@link sums}. */
  readonly routes: Counts<string> = [];
  /** Of the latest call; 0 without one. */
  lastMs = 0;
  ip = '';
  userAgent = '';
  /** The same token in another hour: a batch seldom has one. */
  next: Tally | undefined;

  constructor(tenant: string, tokenId: string, hour: number) {
    this.tenant = tenant;
    this.tokenId = tokenId;
    this.hour = hour;
  }

  /** Counts a request; one that `isCall` is not leaves nothing but its outcome. */
  add(call: Call, isCall: boolean): void {
    if (call.outcome !== 'ok') increase(this.sums, call.outcome, 1);
    if (!isCall) return;
    this.calls += 1;
    const us = call.durationMs > 0 ? Math.round(call.durationMs * 1000) : 0;
    increase(this.sums, 'us', us);
    const digit = (call.status / 100) | 0;
    increase(this.sums, classNames[digit > 0 && digit < 6 ? digit : 0] as string, 1);
    increase(this.sums, bucketOf(us), 1);
    if (call.route !== '') increase(this.routes, call.route, 1);
    this.#used(call.timeMs, call.ip, call.userAgent);
  }

  /** Adds another tally of the same hour. */
  merge(other: Tally): void {
    this.calls += other.calls;
    addAll(this.sums, other.sums);
    addAll(this.routes, other.routes);
    this.#used(other.lastMs, other.ip, other.userAgent);
  }

  #used(timeMs: number, ip: string, userAgent: string): void {
    if (timeMs < this.lastMs) return;
    this.lastMs = timeMs;
    this.ip = ip;
    this.userAgent = userAgent;
  }
}

/** Names and numbers in turn. They are few: looking through them costs less than a map for each token of a batch. */
type Counts<Name extends string | number> = (Name | number)[];

const classNames = ['c0', 'c1', 'c2', 'c3', 'c4', 'c5'];

function increase<Name extends string | number>(counts: Counts<Name>, name: Name, by: number): void {
  for (let at = 0; at < counts.length; at += 2) {
    if (counts[at] !== name) continue;
    (counts[at + 1] as number) += by;
    return;
  }
  counts.push(name, by);
}

function addAll<Name extends string | number>(counts: Counts<Name>, more: Counts<Name>): void {
  const isEmpty = counts.length === 0;
  for (let at = 0; at < more.length; at += 2) {
    if (isEmpty) counts.push(more[at] as Name, more[at + 1] as number);
    else increase(counts, more[at] as Name, more[at + 1] as number);
  }
}

/** The tallies of one batch. */
export class TallyTable {
  readonly #byToken = new Map<string, Tally>();

  /** Counts a request of a known token of a known tenant. */
  add(call: Call, isCall: boolean): void {
    tallyOf(this.#byToken, call.tokenId, call.tenant, call.tokenId, Math.floor(call.timeMs / hourMs)).add(call, isCall);
  }

  /** Those of the tokens, then those of their tenants. */
  finish(): Tally[] {
    const tallies: Tally[] = [];
    const byTenant = new Map<string, Tally>();
    for (const first of this.#byToken.values()) {
      for (let tally: Tally | undefined = first; tally !== undefined; tally = tally.next) {
        tallies.push(tally);
        tallyOf(byTenant, tally.tenant, tally.tenant, '', tally.hour).merge(tally);
      }
    }
    for (const first of byTenant.values()) {
      for (let tally: Tally | undefined = first; tally !== undefined; tally = tally.next) tallies.push(tally);
    }
    return tallies;
  }
}

/** The tally of an hour in the chain of `name`, which begins or grows with it. */
function tallyOf(chains: Map<string, Tally>, name: string, tenant: string, tokenId: string, hour: number): Tally {
  let tally = chains.get(name);
  if (tally === undefined) {
    tally = new Tally(tenant, tokenId, hour);
    chains.set(name, tally);
  }
  while (tally.hour !== hour) {
    tally.next ??= new Tally(tenant, tokenId, hour);
    tally = tally.next;
  }
  return tally;
}
