/**
 * Admission: every request's ticket goes to Redis in a batch with whatever else is waiting, and comes back as a verdict.
 *
 *   submit -> queue -> (end of this event-loop turn, or when a batch returns) -> lua/admit.lua -> admissionSettled
 *
 * - Tickets of one event-loop turn leave together; at low load nobody waits for anybody. Under load batches grow by
 *   themselves, because at most two are in flight and what arrives meanwhile leaves when one returns.
 * - Every request is settled within `commandTimeoutMs` and 50 ms of its first submit, whatever Redis does and however
 *   often its records move, and never inside `submit`. A ticket that waited for a whole `commandTimeoutMs` is given up
 *   unsent; one that is sent has 50 ms left (half the deadline where that is less), because a Redis that is merely slow
 *   would otherwise answer nobody in time.
 * - Where nobody asks, an open breaker is probed with an empty batch: a process that gets no requests because it is not
 *   ready must become ready.
 * - A refusal is repeated locally for up to a second (deny-cache.ts); after a few failures nobody waits (breaker.ts).
 * - Tokens that are set to it are admitted by units that were charged in advance (leases.ts).
 *
 * What keeps it fast: no promise, closure or timer per request; one reused verdict; one timer and one command a batch.
 * An instance is one group of keys that share batches, which its carrier takes to Redis: on one server that is
 * everything, on a Cluster it is what lies on one node (cluster-admission.ts).
 */
import { inPollPhase } from '../core/poll-phase.js';
import { Breaker, type BreakerState } from '../redis/breaker.js';
import type { StoreErrorKind } from '../telemetry/catalogue.js';
import { storeErrorKind } from '../telemetry/store-error-kind.js';
import {
  type AdmissionTicket,
  blankVerdict,
  type Carrier,
  stateWithoutRedis,
  type TicketBatch,
  type Verdict,
  type VerdictCode,
  verdictCodes,
} from './ticket.js';
import { type Denial, DenyCache, restate } from './deny-cache.js';
import { type Lease, Leases } from './leases.js';
import { type AdmissionGate, type AdmissionObserver, conclude, deliver } from './gate.js';
import { TicketQueue } from './ticket-queue.js';

const probeIntervalMs = 250;
/** What a ticket that is sent has left of its deadline at least, ms. */
const lastWaitMs = 50;

/** Why a ticket is settled without Redis. */
type LocalReason = VerdictCode | Denial | Lease;

export interface AdmissionOptions {
  /** On connections of purpose `admission`: they fail fast and queue nothing themselves. */
  readonly carrier: Carrier;
  readonly observer: AdmissionObserver;
  /** Tickets that may wait at once; the next is `overloaded`. */
  readonly queueMax: number;
  /** From the first submit to the verdict, ms; up to 50 ms more when it had to wait for a batch. */
  readonly commandTimeoutMs: number;
  readonly batchesInFlightMax?: number;
  /** Bounds how long one script holds Redis. */
  readonly batchSizeMax?: number;
  /** Refusals remembered; without one, an own of 10,000. */
  readonly denials?: DenyCache;
  /** Leases of all that submit to the same place; without, an own. */
  readonly leases?: Leases;
}

/** A batch in flight; reused when it has returned. */
interface Flight {
  readonly batch: TicketBatch;
  sentAtMs: number;
  timer: NodeJS.Timeout | undefined;
  /** Raised when the flight ends, so that an answer after its deadline finds nobody. */
  serial: number;
}

export class Admission implements AdmissionGate {
  installation = '';
  readonly denials: DenyCache;
  readonly leases: Leases;

  readonly #carrier: Carrier;
  readonly #observer: AdmissionObserver;
  readonly #commandTimeoutMs: number;
  readonly #batchSizeMax: number;
  readonly #breaker = new Breaker();
  readonly #inFlightMax: number;
  #inFlight = 0;
  /** Flights to use again: more than may be in flight, because the next leaves before the last is worked off. */
  readonly #idle: Flight[] = [];
  readonly #verdict = blankVerdict();

  readonly #queue: TicketQueue;

  // Tickets that are settled without Redis soon; a code, a denial or a lease each.
  #localTickets: AdmissionTicket[] = [];
  #localReasons: LocalReason[] = [];

  readonly #probing: NodeJS.Timeout;
  /** Runs while a ticket waits that was sent before. */
  #lateness: NodeJS.Timeout | undefined;
  /** For the deadline of a ticket that waits since then. */
  #latenessSinceMs = 0;
  #turnScheduled = false;
  #turnStartedMs = 0;
  #closed = false;
  readonly #turn = (): void => this.#endTurn();
  readonly #settleLocals = (): void => this.#settleLocally();
  readonly #giveUpLate = (): void => this.#giveUpWhatIsLate();

  constructor(options: AdmissionOptions) {
    this.#carrier = options.carrier;
    this.#observer = options.observer;
    this.#commandTimeoutMs = options.commandTimeoutMs;
    this.#batchSizeMax = options.batchSizeMax ?? 128;
    this.denials = options.denials ?? new DenyCache(10_000);
    this.#queue = new TicketQueue(options.queueMax);
    this.#inFlightMax = options.batchesInFlightMax ?? 2;
    this.leases = options.leases ?? new Leases((ticket) => this.submit(ticket));
    options.carrier.onConnected(() => {
      this.#breaker.reconnected();
      this.leases.reconnected();
    });
    this.#probing = setInterval(() => this.#probe(), probeIntervalMs);
    this.#probing.unref();
  }

  /** For metrics and readiness. */
  get breakerState(): BreakerState {
    return this.#breaker.state;
  }

  /** Tickets waiting for a batch now. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Takes a ticket; its `admissionSettled` is called once, in a later macrotask. */
  submit(ticket: AdmissionTicket): void {
    if (ticket.leasable && !this.#closed) {
      const lease = this.leases.find(ticket, performance.now());
      if (lease !== undefined) return this.#settleLater(ticket, lease);
    }
    if (!this.#turnScheduled) this.#scheduleTurn();
    const denial = this.denials.find(ticket, this.#turnStartedMs);
    if (denial !== undefined) {
      this.#observer.deniedLocally();
      this.#settleLater(ticket, denial);
    } else if (this.#closed) {
      this.#settleLater(ticket, verdictCodes.storeUnavailable);
    } else {
      this.#enqueue(ticket);
    }
  }

  #enqueue(ticket: AdmissionTicket): void {
    if (!this.#turnScheduled) this.#scheduleTurn();
    if (this.#queue.isFull) {
      this.#settleLater(ticket, verdictCodes.overloaded);
    } else {
      if (ticket.waitingSinceMs === 0) ticket.waitingSinceMs = this.#turnStartedMs;
      // What was sent before waits behind tickets that came later, and its deadline before theirs.
      else this.#giveUpInTime(ticket.waitingSinceMs);
      this.#queue.push(ticket, ticket.waitingSinceMs);
    }
  }

  /** Looks, at the deadline of what waits since `sinceMs`, for all whose time is over, should no batch have taken them. */
  #giveUpInTime(sinceMs: number): void {
    if (this.#lateness !== undefined && this.#latenessSinceMs <= sinceMs) return;
    clearTimeout(this.#lateness);
    this.#latenessSinceMs = sinceMs;
    const leftMs = Math.max(0, sinceMs + this.#commandTimeoutMs - performance.now());
    // As for a batch: an answer that lies in the socket is read first.
    this.#lateness = setTimeout(() => setImmediate(this.#giveUpLate), leftMs);
    this.#lateness.unref();
  }

  #giveUpWhatIsLate(): void {
    this.#lateness = undefined;
    const nextMs = this.#queue.takeWaitingSince(performance.now() - this.#commandTimeoutMs, (ticket) =>
      this.#settleLater(ticket, verdictCodes.storeUnavailable),
    );
    if (this.#queue.length > 0) this.#giveUpInTime(nextMs);
  }

  /** Gives up what waits and takes no more; batches in flight are still answered. The connection is the caller's. */
  close(): void {
    this.#closed = true;
    clearInterval(this.#probing);
    clearTimeout(this.#lateness);
    this.#giveUpWaiting();
  }

  /** As `close`, but what waits is handed over instead. */
  release(): AdmissionTicket[] {
    const tickets = Array.from({ length: this.#queue.length }, () => this.#queue.shift());
    this.close();
    return tickets;
  }

  #scheduleTurn(): void {
    this.#turnScheduled = true;
    this.#turnStartedMs = performance.now();
    setImmediate(this.#turn);
  }

  #settleLater(ticket: AdmissionTicket, reason: LocalReason): void {
    this.#localReasons.push(reason);
    if (this.#localTickets.push(ticket) === 1) inPollPhase(this.#settleLocals);
  }

  #endTurn(): void {
    this.#turnScheduled = false;
    this.#sendWaiting();
  }

  #settleLocally(): void {
    const tickets = this.#localTickets;
    const reasons = this.#localReasons;
    this.#localTickets = [];
    this.#localReasons = [];
    const nowMs = performance.now();
    for (let index = 0; index < tickets.length; index += 1) {
      const ticket = tickets[index] as AdmissionTicket;
      if (!ticket.cancelled) this.#settleOne(ticket, reasons[index] as LocalReason, nowMs);
    }
  }

  /** Sends what waits as far as batches may be in flight. Settles nothing itself. */
  #sendWaiting(): void {
    while (this.#queue.length > 0 && this.#inFlight < this.#inFlightMax) {
      const nowMs = performance.now();
      const flight = this.#takeFlight();
      // A probe risks one ticket: the others need not wait for a server that is most likely still away.
      const sizeMax = this.#breaker.state === 'closed' ? this.#batchSizeMax : 1;
      const oldestMs = this.#fill(flight.batch, nowMs, sizeMax);
      if (flight.batch.tickets.length === 0) {
        this.#idle.push(flight);
      } else if (this.#breaker.allows(nowMs)) {
        this.#send(flight, nowMs, oldestMs);
      } else {
        this.#giveUp(flight);
        this.#giveUpWaiting();
      }
    }
  }

  /** Moves up to `sizeMax` waiting tickets into `batch`; answers when the oldest of them was submitted. */
  #fill(batch: TicketBatch, nowMs: number, sizeMax: number): number {
    batch.clear();
    let oldestMs = nowMs;
    while (this.#queue.length > 0 && batch.tickets.length < sizeMax) {
      const submittedMs = this.#queue.firstSinceMs;
      const ticket = this.#queue.shift();
      if (ticket.cancelled) continue;
      if (nowMs - submittedMs > this.#commandTimeoutMs) {
        this.#settleLater(ticket, verdictCodes.storeUnavailable);
        continue;
      }
      if (submittedMs < oldestMs) oldestMs = submittedMs;
      if (ticket.leasable) ticket.lease = this.leases.wish(ticket, nowMs);
      batch.tickets.push(ticket);
    }
    return oldestMs;
  }

  #probe(): void {
    const nowMs = performance.now();
    if (this.#breaker.state === 'closed' || this.#queue.length > 0 || !this.#breaker.allows(nowMs)) return;
    const flight = this.#takeFlight();
    flight.batch.clear();
    this.#send(flight, nowMs, nowMs);
  }

  #takeFlight(): Flight {
    return this.#idle.pop() ?? { batch: this.#carrier.newBatch(), sentAtMs: 0, timer: undefined, serial: 0 };
  }

  #giveUpWaiting(): void {
    while (this.#queue.length > 0) this.#settleLater(this.#queue.shift(), verdictCodes.storeUnavailable);
  }

  /** Its tickets are settled as `storeUnavailable` at the end of the turn. */
  #giveUp(flight: Flight): void {
    for (const ticket of flight.batch.tickets) this.#settleLater(ticket, verdictCodes.storeUnavailable);
    // What may still come of it finds nobody.
    flight.batch.clear();
    this.#idle.push(flight);
  }

  #send(flight: Flight, nowMs: number, oldestMs: number): void {
    this.#inFlight += 1;
    const { serial } = flight;
    flight.sentAtMs = nowMs;
    const expire = (): void => {
      if (flight.serial === serial) this.#failed(flight, 'timeout');
    };
    // After a stall of this process an answer may lie unread in the socket: it is read before the verdict is timeout.
    const timeLeftMs = Math.max(
      oldestMs + this.#commandTimeoutMs - nowMs,
      Math.min(this.#commandTimeoutMs / 2, lastWaitMs),
    );
    flight.timer = setTimeout(() => setImmediate(expire), timeLeftMs);
    flight.batch.send(this.installation, nowMs + timeLeftMs).then(
      (reply) => {
        if (flight.serial === serial) this.#answered(flight, reply);
      },
      (error: unknown) => {
        if (flight.serial === serial) this.#failed(flight, storeErrorKind(error));
      },
    );
  }

  #answered(flight: Flight, reply: unknown): void {
    if (!flight.batch.isReply(reply)) {
      this.#failed(flight, 'script');
      return;
    }
    this.#land(flight);
    this.#breaker.succeeded();
    const { length } = flight.batch.tickets;
    if (length > 0) this.#observer.batchAnswered(length, performance.now() - flight.sentAtMs);
    // The next batch leaves before these verdicts are worked on.
    this.#sendWaiting();
    flight.batch.settle(reply, this.#verdict, (ticket, verdict) => this.#settled(flight, ticket, verdict));
    this.#idle.push(flight);
  }

  #failed(flight: Flight, kind: StoreErrorKind): void {
    this.#land(flight);
    this.#breaker.failed(performance.now());
    this.#carrier.failed();
    this.#observer.storeFailed(kind);
    this.#giveUp(flight);
    this.#sendWaiting();
  }

  #land(flight: Flight): void {
    clearTimeout(flight.timer);
    flight.serial += 1;
    this.#inFlight -= 1;
  }

  #settled(flight: Flight, ticket: AdmissionTicket, verdict: Verdict): void {
    conclude(this, this.#observer, flight.sentAtMs, ticket, verdict);
  }

  #settleOne(ticket: AdmissionTicket, reason: LocalReason, nowMs: number): void {
    const verdict = this.#verdict;
    if (typeof reason === 'number') {
      stateWithoutRedis(verdict, reason);
    } else if ('left' in reason) {
      // A long turn may have outlived it, or its units went to others of this turn.
      if (!this.leases.take(reason, ticket, verdict)) return this.#enqueue(ticket);
    } else {
      restate(reason, nowMs, verdict);
    }
    deliver(ticket, verdict);
  }
}
