/** What requests hand their tickets to, and how each gets what was decided. */
import type { BreakerState } from '../redis/breaker.js';
import type { StoreErrorKind } from '../telemetry/catalogue.js';
import type { DenyCache } from './deny-cache.js';
import type { Leases } from './leases.js';
import { type AdmissionTicket, type Verdict, verdictCodes } from './ticket.js';

/** What requests are handed to, and what others look at: one `Admission` (batcher.ts), or one for each node of a Cluster. */
export interface AdmissionGate {
  /** The id that the store must carry (its meta key); '' until the sidecar has learned it. */
  installation: string;
  readonly denials: DenyCache;
  readonly leases: Leases;
  /** For metrics and readiness. */
  readonly breakerState: BreakerState;
  /** Tickets waiting for a batch now. */
  readonly waiting: number;
  /** Takes a ticket; its `admissionSettled` is called once, in a later macrotask. */
  submit(ticket: AdmissionTicket): void;
  /** Gives up what waits and takes no more; batches in flight are still answered. Connections are the caller's. */
  close(): void;
}

/** Told what happens, for metrics. Must not throw. */
export interface AdmissionObserver {
  /** A batch was answered: how many tickets, and how long Redis took (monotonic ms). */
  batchAnswered(size: number, durationMs: number): void;
  /** A batch failed, or a record in it could not be decoded. */
  storeFailed(kind: StoreErrorKind): void;
  /** A ticket was refused by the deny cache. */
  deniedLocally(): void;
}

/** Gives a ticket what Redis said of it. `sentAtMs`: when Redis was asked (monotonic). */
export function conclude(
  { denials, leases }: Pick<AdmissionGate, 'denials' | 'leases'>,
  observer: AdmissionObserver,
  sentAtMs: number,
  ticket: AdmissionTicket,
  verdict: Verdict,
): void {
  if (verdict.code === verdictCodes.limited || verdict.code === verdictCodes.quotaExceeded) {
    denials.remember(ticket, verdict, sentAtMs);
  } else if (verdict.code === verdictCodes.unreadable) {
    observer.storeFailed('unreadable-record');
  }
  if (ticket.leasable && ticket.lease !== null) leases.answered(ticket, verdict.lease, sentAtMs);
  deliver(ticket, verdict);
}

/** A throw in one ticket's callback is a bug; it surfaces as one, and the other tickets are settled all the same. */
export function deliver(ticket: AdmissionTicket, verdict: Verdict): void {
  try {
    ticket.admissionSettled(verdict);
  } catch (error) {
    setImmediate(() => {
      throw error;
    });
  }
}
