/**
 * Refusals remembered for at most a second, so that a client hammering at its limit costs Redis nothing.
 *
 * Sound because a limit frees nothing before the wait it told (but for what leases give back: leases.ts): what cost c was
 * refused with a wait of w, cost >= c would be refused too until w has passed. Time counts from when the batch was SENT,
 * which is before Redis decided, so an entry ends early rather than late. It holds only for the versions it was told for,
 * is forgotten when its token or tenant changes, and nothing is remembered while changes cannot be heard (`enabled`).
 */
import type { AdmissionTicket, Verdict, VerdictCode } from './ticket.js';

/** Longest life of an entry, ms. */
const entryAgeMaxMs = 1000;
/** The same where leases may be given back before the wait that was told. */
const leasableAgeMaxMs = 100;

/** A remembered refusal; times are monotonic ms. */
export interface Denial {
  readonly tokenVersion: number;
  readonly tenantKey: string;
  readonly tenantVersion: number;
  readonly cost: number;
  readonly code: VerdictCode;
  readonly limitIndex: number;
  readonly resetMs: number;
  readonly retryMs: number;
  readonly nowMs: number;
  readonly sentAtMs: number;
  readonly untilMs: number;
}

export class DenyCache {
  readonly #entriesMax: number;
  // A Map keeps the order of insertion: the first key is the oldest refusal.
  readonly #entries = new Map<string, Denial>();
  #enabled = false;
  /** When something was last forgotten: a refusal decided before may rest on what has changed since. */
  #forgotAtMs = 0;

  constructor(entriesMax: number) {
    this.#entriesMax = entriesMax;
  }

  get enabled(): boolean {
    return this.#enabled;
  }

  /** On only while every change of a token or tenant is heard; off forgets everything. */
  set enabled(enabled: boolean) {
    this.#enabled = enabled;
    this.#entries.clear();
    this.#forgotAtMs = performance.now();
  }

  get size(): number {
    return this.#entries.size;
  }

  /** The refusal that answers this ticket without Redis, or undefined. */
  find(ticket: AdmissionTicket, nowMs: number): Denial | undefined {
    if (this.#entries.size === 0) return undefined;
    const denial = this.#entries.get(ticket.tokenKey);
    if (denial === undefined) return undefined;
    if (nowMs >= denial.untilMs) {
      this.#entries.delete(ticket.tokenKey);
      return undefined;
    }
    return ticket.cost >= denial.cost &&
      ticket.tokenVersion === denial.tokenVersion &&
      ticket.tenantKey === denial.tenantKey &&
      ticket.tenantVersion === denial.tenantVersion
      ? denial
      : undefined;
  }

  /** Remembers a refusal (`limited`, `quotaExceeded`) whose batch was sent at `sentAtMs`. */
  remember(ticket: AdmissionTicket, verdict: Verdict, sentAtMs: number): void {
    if (!this.#enabled || this.#entriesMax === 0 || sentAtMs <= this.#forgotAtMs) return;
    const { tokenKey } = ticket;
    const known = this.#entries.get(tokenKey);
    // Of two refusals that both hold, the cheaper request's answers more tickets.
    if (known !== undefined && known.cost < ticket.cost && known.untilMs > sentAtMs) return;
    this.#entries.delete(tokenKey);
    if (this.#entries.size >= this.#entriesMax) {
      const oldest = this.#entries.keys().next();
      if (oldest.done !== true) this.#entries.delete(oldest.value);
    }
    this.#entries.set(tokenKey, {
      tokenVersion: ticket.tokenVersion,
      tenantKey: ticket.tenantKey,
      tenantVersion: ticket.tenantVersion,
      cost: ticket.cost,
      code: verdict.code,
      limitIndex: verdict.limitIndex,
      resetMs: verdict.resetMs,
      retryMs: verdict.retryMs,
      nowMs: verdict.nowMs,
      sentAtMs,
      untilMs: sentAtMs + Math.min(verdict.retryMs, ticket.leasable ? leasableAgeMaxMs : entryAgeMaxMs),
    });
  }

  /** The token changed: its next request asks Redis. */
  forgetToken(tokenKey: string): void {
    this.#forgotAtMs = performance.now();
    this.#entries.delete(tokenKey);
  }

  /** The tenant changed: so does, perhaps, a limit that any of its tokens was refused by. */
  forgetTenant(tenantKey: string): void {
    this.#forgotAtMs = performance.now();
    for (const [tokenKey, denial] of this.#entries) {
      if (denial.tenantKey === tenantKey) this.#entries.delete(tokenKey);
    }
  }
}

/** Writes what the refusal says at `nowMs` (monotonic): its times count down, nothing remains. */
export function restate(denial: Denial, nowMs: number, verdict: Verdict): void {
  const agedMs = Math.max(0, Math.floor(nowMs - denial.sentAtMs));
  verdict.code = denial.code;
  verdict.limitIndex = denial.limitIndex;
  verdict.remaining = 0;
  verdict.resetMs = Math.max(1, denial.resetMs - agedMs);
  verdict.retryMs = Math.max(1, denial.retryMs - agedMs);
  verdict.nowMs = denial.nowMs + agedMs;
  verdict.tokenRecord = null;
  verdict.tenantRecord = null;
  verdict.lease = null;
}
