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

const hourMs = 3_600_000;

/** The calls of one token, or of all tokens of a tenant, in one hour. */
export class Tally {
  readonly tenant: string;
  /** '' for the tenant as a whole. */
  readonly tokenId: string;
  /** Hours since 1970, UTC. */
  readonly hour: number;
  calls = 0;
  durationUs = 0;
  /** Calls by the first digit of their status; 0: the client left before there was one. */
  readonly statusClasses: number[] = [0, 0, 0, 0, 0, 0];
  /** Calls by bucket of their duration. */
  readonly buckets = new Map<number, number>();
  /** Requests by outcome, `ok` not among them. Rejected credentials are counted here and are no calls. */
  readonly outcomes = new Map<string, number>();
  /** Calls by route. */
  readonly routes = new Map<string, number>();
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
    if (call.outcome !== 'ok') increase(this.outcomes, call.outcome, 1);
    if (!isCall) return;
    this.calls += 1;
    const us = call.durationMs > 0 ? Math.round(call.durationMs * 1000) : 0;
    this.durationUs += us;
    increase(this.buckets, bucketOf(us), 1);
    const digit = (call.status / 100) | 0;
    const statusClass = digit > 0 && digit < 6 ? digit : 0;
    this.statusClasses[statusClass] = (this.statusClasses[statusClass] as number) + 1;
    if (call.route !== '') increase(this.routes, call.route, 1);
    if (call.timeMs >= this.lastMs) {
      this.lastMs = call.timeMs;
      this.ip = call.ip;
      this.userAgent = call.userAgent;
    }
  }

  /** Adds what another one has counted. */
  merge(other: Tally): void {
    this.calls += other.calls;
    this.durationUs += other.durationUs;
    for (const [digit, count] of other.statusClasses.entries()) {
      this.statusClasses[digit] = (this.statusClasses[digit] as number) + count;
    }
    for (const [bucket, count] of other.buckets) increase(this.buckets, bucket, count);
    for (const [outcome, count] of other.outcomes) increase(this.outcomes, outcome, count);
    for (const [route, count] of other.routes) increase(this.routes, route, count);
    if (other.lastMs >= this.lastMs) {
      this.lastMs = other.lastMs;
      this.ip = other.ip;
      this.userAgent = other.userAgent;
    }
  }
}

function increase<Key>(counts: Map<Key, number>, key: Key, by: number): void {
  counts.set(key, (counts.get(key) ?? 0) + by);
}

/** The tallies of one batch. */
export class TallyTable {
  readonly #byToken = new Map<string, Tally>();

  /** Counts a request of a known token of a known tenant. */
  add(call: Call, isCall: boolean): void {
    const hour = Math.floor(call.timeMs / hourMs);
    let tally = this.#byToken.get(call.tokenId);
    if (tally === undefined) {
      tally = new Tally(call.tenant, call.tokenId, hour);
      this.#byToken.set(call.tokenId, tally);
    }
    while (tally.hour !== hour) {
      tally.next ??= new Tally(call.tenant, call.tokenId, hour);
      tally = tally.next;
    }
    tally.add(call, isCall);
  }

  /** Those of the tokens, then those of their tenants. */
  finish(): Tally[] {
    const tallies: Tally[] = [];
    const ofTenants = new Map<string, Tally>();
    for (const first of this.#byToken.values()) {
      for (let tally: Tally | undefined = first; tally !== undefined; tally = tally.next) {
        tallies.push(tally);
        const name = `${tally.hour} ${tally.tenant}`;
        let ofTenant = ofTenants.get(name);
        if (ofTenant === undefined) {
          ofTenant = new Tally(tally.tenant, '', tally.hour);
          ofTenants.set(name, ofTenant);
        }
        ofTenant.merge(tally);
      }
    }
    tallies.push(...ofTenants.values());
    return tallies;
  }
}
