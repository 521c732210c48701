/** One request on its way: where it stands, and what its caller may still hear. */
import { inPollPhase } from '../core/poll-phase.js';
import type { Denial } from '../core/problems.js';
import type { UpstreamCall, UpstreamRequest, UpstreamSink } from './call.js';

/** What carries the request for now. */
export interface Carrier {
  /** Bytes given to the connection that the kernel has not taken. */
  readonly unsentBytes: number;
  /** The request is given up: the connection can carry no other one after it. */
  destroy(): void;
  resume(): void;
}

/** Who is told that a request without a connection is given up. */
export interface CallOwner {
  forget(call: PendingCall): void;
}

export class PendingCall implements UpstreamCall {
  readonly request: UpstreamRequest;
  readonly sink: UpstreamSink;
  /** When the head of the answer must be there, coarse clock. */
  readonly deadlineMs: number;
  readonly #owner: CallOwner;
  /** The connection that carries it; undefined while it waits. */
  carrier: Carrier | undefined;
  /** It was sent over a connection that turned out to be given up, and may not be sent again. */
  retried = false;
  /** Addresses that could not be connected to. */
  refusals = 0;
  /** The sink has heard everything it is to hear. */
  settled = false;
  #isAborted = false;

  constructor(owner: CallOwner, request: UpstreamRequest, sink: UpstreamSink, deadlineMs: number) {
    this.#owner = owner;
    this.request = request;
    this.sink = sink;
    this.deadlineMs = deadlineMs;
  }

  abort(): void {
    this.#isAborted = true;
    if (this.settled) return;
    this.settled = true;
    const { carrier } = this;
    if (carrier === undefined) this.#owner.forget(this);
    else carrier.destroy();
  }

  get unsentBytes(): number {
    return this.carrier?.unsentBytes ?? 0;
  }

  resume(): void {
    if (!this.settled) this.carrier?.resume();
  }

  /** Tells the sink in a macrotask of its own: failures may be found while the request is being sent. */
  fail(denial: Denial): void {
    if (this.settled) return;
    this.settled = true;
    this.carrier = undefined;
    inPollPhase(() => {
      if (!this.#isAborted) this.sink.upstreamFailed(denial);
    });
  }
}
