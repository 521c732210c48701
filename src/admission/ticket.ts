/** What the data plane asks admission, and what it is answered: tickets and verdicts, whatever brings them to Redis. */

/** What became of a ticket. The first eleven are lua/admit.lua's, the last two are decided in this process. */
export const verdictCodes = {
  /** Everything holds; the cost is charged and the claim is made. */
  admitted: 1,
  /** Cost 0: everything holds, nothing was charged. A claim is made all the same. */
  confirmed: 2,
  /** A record is not the version the ticket was decided under: `tokenRecord`, `tenantRecord` hold what changed. */
  moved: 3,
  /** The token does not exist. */
  unknown: 4,
  /** Redis holds no installation, or another one than expected: an outage, never a reason for 401. */
  storeEmpty: 5,
  /** Redis' clock is at or past `notAfterMs`. */
  tooLate: 6,
  /** Redis' clock is before `notBeforeMs`. */
  tooEarly: 7,
  /** The claim was made before. */
  replayed: 8,
  /** A rate limit has not enough units left; wait `retryMs`. */
  limited: 9,
  /** A quota has not enough units left; wait `retryMs`. */
  quotaExceeded: 10,
  /** The record in Redis cannot be decoded, or the token's tenant is not there. */
  unreadable: 11,
  /** Too many tickets wait already. */
  overloaded: 20,
  /** Redis did not answer, in time or at all. */
  storeUnavailable: 21,
} as const;

export type VerdictCode = (typeof verdictCodes)[keyof typeof verdictCodes];

/**
 * ONE object that is overwritten for every ticket: read it inside `admissionSettled`, keep nothing of it.
 *
 * `limitIndex`, `remaining`, `resetMs` describe one limit whenever both records were current: the one nearest to its
 * end (smallest share of its capacity left after the charge), or on `limited` and `quotaExceeded` the one with the
 * longest wait. Else `limitIndex` is -1 and they are 0.
 */
export interface Verdict {
  code: VerdictCode;
  /** Counts the token's effective limits from 0, then the tenant's; -1: no limit to speak of. */
  limitIndex: number;
  /** Units that limit has left. */
  remaining: number;
  /** Until further units come back to it, ms; 0 when it is full. */
  resetMs: number;
  /** Refusals: until the same request could be admitted if nobody else calls, ms; else 0. */
  retryMs: number;
  /** Redis' clock, ms; 0 when Redis was not asked. */
  nowMs: number;
  /** `moved`: the token's record, JSON, when the token changed. */
  tokenRecord: string | null;
  /** `moved`: the tenant's record, JSON, when the tenant changed. */
  tenantRecord: string | null;
  /** The lease that its question was answered with, or, where Redis was not asked, that admitted it; else null. */
  lease: LeaseGrant | null;
}

/** What a ticket asks besides: units in advance, or it gives back what was left of them. */
export interface LeaseQuestion {
  /** At least 1. */
  readonly units: number;
  /** 0 asks for a lease; else the grant's `datedMs`, whose units come back. */
  readonly datedMs: number;
  /** The grant's; what it holds is no matter when a lease is asked for. */
  readonly marks: Buffer;
}

/** Units charged in advance. They must be used within {@link leaseMaxMs} of Redis' decision, or be given back or lost. */
export interface LeaseGrant {
  readonly units: number;
  /** The limit nearest to its end, and its state after the charge; as in {@link Verdict}. */
  readonly limitIndex: number;
  readonly remaining: number;
  readonly resetMs: number;
  /** Redis' clock at the grant, and the time that the charge was dated, ms. */
  readonly nowMs: number;
  readonly datedMs: number;
  /** What a return must carry (16 bytes, lua/admit.lua). */
  readonly marks: Buffer;
}

/** Longest life of a lease, ms: `lease_ms` of lua/admit.lua. Whoever changes a record that was leased waits for so long. */
export const leaseMaxMs = 100;

/** One request's question. The pipeline owns the object; its fields must not change until it is settled. */
export interface AdmissionTicket {
  readonly tokenKey: string;
  /** Version of the token record that was decided under; 0: none is cached. */
  readonly tokenVersion: number;
  /** '' when the tenant is not known yet: it is not asked for then. */
  readonly tenantKey: string;
  readonly tenantVersion: number;
  /** Units; 0 only confirms that the records are current. */
  readonly cost: number;
  /** Bounds on Redis' clock, ms: `notBeforeMs <= now < notAfterMs`; 0: no bound. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** What may be used once, 64 hex digits (an HMAC signature); '' none. */
  readonly claim: string;
  /** The set that holds it once it was used: of claims that are kept until the same time. */
  readonly claimKey: string;
  /** The claim is kept until then, ms. */
  readonly claimUntilMs: number;
  /** Its token may be leased, and the request may be admitted by a lease. */
  readonly leasable: boolean;
  /** Set when it joins a batch; null for most. */
  lease: LeaseQuestion | null;
  /** Since when its request waits for Redis, monotonic ms: set by its first `submit`, 0 before. */
  waitingSinceMs: number;
  /** The client has left: a ticket that was not sent yet is dropped, charged nothing and never settled. */
  readonly cancelled: boolean;
  /** Called once, always in a later macrotask than `submit`. */
  admissionSettled(verdict: Verdict): void;
}

/** Tickets that travel together. It is used again when its tickets are settled. */
export interface TicketBatch {
  readonly tickets: AdmissionTicket[];
  /** Forgets the tickets, and what is still to come of them. */
  clear(): void;
  /**
   * Sends the tickets, in this turn. `installation` is the id the store must carry; `deadlineMs` (monotonic) is when
   * they are given up. Rejects when none of them was answered.
   */
  send(installation: string, deadlineMs: number): Promise<unknown>;
  /** Whether that is a reply to the last `send`. */
  isReply(reply: unknown): boolean;
  /** Hands each ticket its verdict out of such a reply. */
  settle(reply: unknown, verdict: Verdict, settled: (ticket: AdmissionTicket, verdict: Verdict) => void): void;
}

/** How batches get to Redis. */
export interface Carrier {
  newBatch(): TicketBatch;
  /** Hears that Redis can be asked again. */
  onConnected(listener: () => void): void;
  /** A batch was not answered. */
  failed(): void;
}

/** A verdict to be overwritten. */
export function blankVerdict(): Verdict {
  const verdict = {} as Verdict;
  stateWithoutRedis(verdict, verdictCodes.storeUnavailable);
  return verdict;
}

/** Overwrites `verdict` with one that Redis was not asked for. */
export function stateWithoutRedis(verdict: Verdict, code: VerdictCode): void {
  verdict.code = code;
  verdict.limitIndex = -1;
  verdict.remaining = 0;
  verdict.resetMs = 0;
  verdict.retryMs = 0;
  verdict.nowMs = 0;
  verdict.tokenRecord = null;
  verdict.tenantRecord = null;
  verdict.lease = null;
}
