/**
 * Leases: units of a very hot token that are charged in advance, so that its requests need not ask Redis one by one.
 *
 * Purpose: where little waits together (a few thousand requests a second), Redis spends most of its time on being asked.
 * Algorithm: the requests of each leasable token are counted in slots of `useMs`. When it is hot, the next request that
 *   goes to Redis asks for as many units as its requests are expected to need in one slot; lua/admit.lua charges them
 *   to every limit of the token and its tenant, after the requests that wait and at most an eighth of what is free. For
 *   `useMs` from when that was SENT, requests that were decided under the very same versions are admitted by them. What is
 *   left goes back with the next request, or by a timer.
 * Never more than the limit: units exist only by a charge, which counts until one window after the end of the lease. They go
 *   back at most once, because a return is sent once, on the connection that brought them; what is lost with a process, a
 *   reply or a connection comes back with its window.
 * Changes: a lease ends by itself; whoever changes a record that was leased waits for `leaseMaxMs` before he says that it
 *   is done (redis/store.ts). Hearing of the change only ends it earlier.
 *
 * Not for what must be asked for one by one: signatures, and tokens with a token bucket. Times are monotonic ms. Hot path:
 * `find` and `take`; no object is made but for the first request of a token and for each lease.
 */
import {
  type AdmissionTicket,
  type LeaseGrant,
  leaseMaxMs,
  type LeaseQuestion,
  type Verdict,
  verdictCodes,
} from './ticket.js';

/** How long a lease is used: the rest of its life is for a turn that takes long, and for timers that are late. */
const useMs = 80;
/** Requests in a slot from which a token is hot: a lease that saves less than it costs is not asked for. */
const hotRequests = 4;
/** More is asked for than was needed before, by this factor. */
const headroom = 1.25;
const unitsMax = 2 ** 32 - 1;
/** What was just begun says little of a whole slot. */
const slotBeginMs = 20;
const noMarks = Buffer.alloc(16);

/** One leasable token as this process sees it: its demand, and the lease that it has. */
export interface Lease {
  readonly tokenKey: string;
  tokenVersion: number;
  tenantKey: string;
  tenantVersion: number;
  /** Units that may still be used; 0: there is no lease. */
  left: number;
  untilMs: number;
  grantedAtMs: number;
  grant: LeaseGrant | undefined;
  /** Connections since the start, when it was granted. */
  connection: number;
  slotBeganMs: number;
  slotRequests: number;
  slotUnits: number;
  requestsBefore: number;
  unitsBefore: number;
  /** Not asked again before then. */
  askAgainMs: number;
}

export class Leases {
  /** Requests that were admitted by a lease since the start, for metrics. */
  taken = 0;
  readonly #entriesMax: number;
  // A Map keeps the order of insertion: the first is the token that is known for longest.
  readonly #leases = new Map<string, Lease>();
  /** Takes what goes back to Redis. */
  readonly #submit: (ticket: AdmissionTicket) => void;
  #connection = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(submit: (ticket: AdmissionTicket) => void, entriesMax = 1000) {
    this.#submit = submit;
    this.#entriesMax = entriesMax;
  }

  /** Counts the request of a leasable token; answers the lease that has units for it, which `take` then takes. */
  find(ticket: AdmissionTicket, nowMs: number): Lease | undefined {
    const lease = this.#leases.get(ticket.tokenKey) ?? this.#open(ticket.tokenKey, nowMs);
    if (nowMs - lease.slotBeganMs >= useMs) {
      const isNext = nowMs - lease.slotBeganMs < 2 * useMs;
      lease.requestsBefore = isNext ? lease.slotRequests : 0;
      lease.unitsBefore = isNext ? lease.slotUnits : 0;
      lease.slotBeganMs = nowMs;
      lease.slotRequests = 0;
      lease.slotUnits = 0;
    }
    lease.slotRequests += 1;
    lease.slotUnits += ticket.cost;
    if (lease.left > 0 && nowMs >= lease.untilMs) this.#giveBack(lease);
    return holds(lease, ticket, nowMs) ? lease : undefined;
  }

  /** Takes the ticket's units and writes its verdict; false when they are no longer there, and Redis has to be asked. */
  take(lease: Lease, ticket: AdmissionTicket, verdict: Verdict): boolean {
    const nowMs = performance.now();
    if (!holds(lease, ticket, nowMs)) return false;
    lease.left -= ticket.cost;
    this.taken += 1;
    const grant = lease.grant as LeaseGrant;
    verdict.code = verdictCodes.admitted;
    verdict.limitIndex = grant.limitIndex;
    verdict.remaining = grant.remaining + lease.left;
    verdict.resetMs = Math.max(1, grant.resetMs - Math.floor(nowMs - lease.grantedAtMs));
    verdict.retryMs = 0;
    verdict.nowMs = 0;
    verdict.tokenRecord = null;
    verdict.tenantRecord = null;
    verdict.lease = grant;
    return true;
  }

  /** What a leasable ticket that goes to Redis asks besides: a lease, when its token is hot and has none. */
  wish(ticket: AdmissionTicket, nowMs: number): LeaseQuestion | null {
    const lease = this.#leases.get(ticket.tokenKey);
    if (lease === undefined || lease.left > 0 || nowMs < lease.askAgainMs || ticket.tenantKey === '') return null;
    const ofSlot = useMs / Math.min(useMs, Math.max(slotBeginMs, nowMs - lease.slotBeganMs));
    if (Math.max(lease.requestsBefore, lease.slotRequests * ofSlot) < hotRequests) return null;
    // Should the reply be lost, it is asked again when a lease would have ended.
    lease.askAgainMs = nowMs + useMs;
    const units = Math.ceil(Math.max(lease.unitsBefore, lease.slotUnits * ofSlot) * headroom);
    return { units: Math.min(units, unitsMax), datedMs: 0, marks: noMarks };
  }

  /** Redis has answered a ticket that asked for a lease, in a batch that was sent at `sentAtMs`. */
  answered(ticket: AdmissionTicket, grant: LeaseGrant | null, sentAtMs: number): void {
    const lease = this.#leases.get(ticket.tokenKey);
    // Without one, the token was forgotten meanwhile: what was charged is lost.
    if (grant === null || lease === undefined) return;
    if (lease.left > 0) this.#giveBack(lease);
    lease.tokenVersion = ticket.tokenVersion;
    lease.tenantKey = ticket.tenantKey;
    lease.tenantVersion = ticket.tenantVersion;
    lease.grant = grant;
    lease.left = grant.units;
    lease.untilMs = sentAtMs + useMs;
    lease.grantedAtMs = performance.now();
    lease.connection = this.#connection;
    lease.askAgainMs = 0;
    this.#timer ??= this.#schedule(useMs);
  }

  /** The connection is a new one: what the old one brought is not given back, for who knows what Redis lost. */
  reconnected(): void {
    this.#connection += 1;
  }

  /** The token changed. */
  forgetToken(tokenKey: string): void {
    const lease = this.#leases.get(tokenKey);
    if (lease !== undefined) lease.left = 0;
  }

  /** The tenant changed. */
  forgetTenant(tenantKey: string): void {
    for (const lease of this.#leases.values()) {
      if (lease.tenantKey === tenantKey) lease.left = 0;
    }
  }

  /** Ends all of them. */
  close(): void {
    clearTimeout(this.#timer);
    this.#leases.clear();
  }

  #open(tokenKey: string, nowMs: number): Lease {
    if (this.#leases.size >= this.#entriesMax) {
      const oldest = this.#leases.values().next().value as Lease;
      if (oldest.left > 0) this.#giveBack(oldest);
      this.#leases.delete(oldest.tokenKey);
    }
    const lease: Lease = {
      tokenKey,
      tokenVersion: 0,
      tenantKey: '',
      tenantVersion: 0,
      left: 0,
      untilMs: 0,
      grantedAtMs: 0,
      grant: undefined,
      connection: 0,
      slotBeganMs: nowMs,
      slotRequests: 0,
      slotUnits: 0,
      requestsBefore: 0,
      unitsBefore: 0,
      askAgainMs: 0,
    };
    this.#leases.set(tokenKey, lease);
    return lease;
  }

  #giveBack(lease: Lease): void {
    const { left, grant, connection, tokenKey, tokenVersion, tenantKey, tenantVersion } = lease;
    lease.left = 0;
    if (connection !== this.#connection || grant === undefined) return;
    const isLost = (): boolean => connection !== this.#connection;
    this.#submit({
      tokenKey,
      tokenVersion,
      tenantKey,
      tenantVersion,
      cost: 0,
      notBeforeMs: 0,
      notAfterMs: 0,
      claim: '',
      claimKey: '',
      claimUntilMs: 0,
      leasable: false,
      lease: { units: left, datedMs: grant.datedMs, marks: grant.marks },
      waitingSinceMs: 0,
      get cancelled() {
        return isLost();
      },
      admissionSettled: () => {},
    });
  }

  /** What idle tokens have left goes back too. */
  #sweep(): void {
    const nowMs = performance.now();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const lease of this.#leases.values()) {
      if (lease.left > 0 && nowMs >= lease.untilMs) this.#giveBack(lease);
      if (lease.left > 0) nextMs = Math.min(nextMs, lease.untilMs - nowMs);
    }
    this.#timer = nextMs === Number.POSITIVE_INFINITY ? undefined : this.#schedule(nextMs);
  }

  #schedule(afterMs: number): NodeJS.Timeout {
    // Busy tokens have given back by themselves by then, together with their next question.
    return setTimeout(() => this.#sweep(), afterMs + (leaseMaxMs - useMs) / 4).unref();
  }
}

/** Whether the lease is of this very token and tenant, has the units, and is within its time and the ticket's. */
function holds(lease: Lease, ticket: AdmissionTicket, nowMs: number): boolean {
  if (lease.left < ticket.cost || lease.left === 0 || nowMs >= lease.untilMs) return false;
  if (
    lease.tokenVersion !== ticket.tokenVersion ||
    lease.tenantVersion !== ticket.tenantVersion ||
    lease.tenantKey !== ticket.tenantKey
  ) {
    return false;
  }
  const { nowMs: redisMs } = lease.grant as LeaseGrant;
  // Redis' clock is at least `redisMs`, and at most a whole life of the lease further.
  return redisMs >= ticket.notBeforeMs && (ticket.notAfterMs === 0 || redisMs + leaseMaxMs < ticket.notAfterMs);
}
