/**
 * A request's body on its way in: held while the request is being decided, then handed to the upstream whole (when
 * it has arrived) or as a stream with backpressure.
 *
 * Facts of the binding this rests on (measured on 20.48):
 * - chunks must be copied: their memory is reused when the callback returns;
 * - `pause` takes effect when the socket has been read empty; what comes meanwhile is kept (see byte-queue.ts);
 * - a write that the client does not take whole ends the pause; `resume` of what is not paused loses all further events
 *   of the connection, `pause` and `resume` together never do;
 * - while paused the binding does not say that the client takes more of the answer; it notices a reset of the client,
 *   but not a mere close; and its idle timeout (10 s, once 160 KB have come) goes on until `resume` starts it anew.
 */
import { Readable } from 'node:stream';
import { deny, type Denial } from '../core/problems.js';
import type { BodyCollector } from '../credential/signed-body.js';
import { chunkedLength } from '../http/request-head.js';
import type { UpstreamCall } from '../upstream/call.js';
import type { HttpResponse } from './binding.js';
import type { BodyBudget, FlowingBody } from './body-budget.js';
import { ByteQueue } from './byte-queue.js';

export const bodyTooLarge = deny('body-too-large', 'The body is larger than this service accepts.');
const memoryFull = deny('overloaded', 'The bodies of other requests fill the memory there is.', { retryAfterS: 1 });
const bodyTooFast = deny('overloaded', 'The body came faster than it could be passed on.', { retryAfterS: 1 });

/** Bytes a stream to the upstream holds before the client is paused. */
const streamHighWaterMark = 256 * 1024;
/** Bytes that may come of one body after its client was paused. */
const queuedBytesMax = 64 * 1024 * 1024;

export class RequestBody implements FlowingBody {
  readonly #res: HttpResponse;
  /** Declared length in bytes, {@link chunkedLength} when it is not known. */
  readonly declared: number;
  /** Most bytes a body of unknown length may have; 0 is no limit. */
  readonly #bytesMax: number;
  readonly #budget: BodyBudget;
  /** Bytes that the budget knows of, and those of them that the upstream's call holds. */
  #heldBytes = 0;
  #lentBytes = 0;
  received = 0;
  complete = false;
  /** Last moment anything moved, monotonic ms. */
  movedAtMs: number;
  /** The client is not read from: the upstream, or the decision, is slower. */
  paused = false;
  readonly #queue = new ByteQueue();
  #collector: BodyCollector | undefined;
  #onTooLarge: (() => void) | undefined;
  #stream: UploadStream | undefined;
  /** What sends the stream. */
  #call: UpstreamCall | undefined;
  #discards = false;
  #onComplete: (() => void) | undefined;

  constructor(res: HttpResponse, declared: number, bytesMax: number, budget: BodyBudget, nowMs: number) {
    this.#res = res;
    this.declared = declared;
    this.#bytesMax = bytesMax;
    this.#budget = budget;
    this.movedAtMs = nowMs;
  }

  /** Bytes still to come, Infinity when that is not known. */
  get remaining(): number {
    return this.declared === chunkedLength ? Number.POSITIVE_INFINITY : this.declared - this.received;
  }

  /** The binding's data callback. Answers why the body is not taken, once that is so; what comes is then dropped. */
  chunk(bytes: ArrayBuffer, isLast: boolean, nowMs: number): Denial | undefined {
    this.received += bytes.byteLength;
    this.movedAtMs = nowMs;
    this.complete = isLast;
    // Paused amid its last read: the next request has to be read.
    if (isLast) this.resume();
    if (this.#discards) {
      if (isLast) this.#onComplete?.();
      return undefined;
    }
    if (this.#bytesMax > 0 && this.received > this.#bytesMax) return this.#refuse(bodyTooLarge);
    if (this.#collector !== undefined) this.#collect(bytes);
    else if (bytes.byteLength > 0) this.#pass(bytes);
    if (this.#queue.length > queuedBytesMax) return this.#refuse(bodyTooFast);
    if (this.#account() && this.#budget.isExceeded) return this.#refuse(memoryFull);
    if (isLast) {
      if (this.#queue.length === 0) this.#stream?.push(null);
      this.#onComplete?.();
    }
    return undefined;
  }

  /**
   * Reads the whole body into `collector` from its first byte on, and tells when it is there or has grown too large
   * (a chunked one; a declared length is checked before).
   */
  collect(collector: BodyCollector, onComplete: () => void, onTooLarge: () => void): void {
    this.#collector = collector;
    this.#onComplete = onComplete;
    this.#onTooLarge = onTooLarge;
  }

  /** What the upstream is to send: the whole body when it has arrived, else a stream that follows the client. */
  toUpstream(): Buffer | Readable {
    if (this.#collector !== undefined) return this.#collector.body();
    if (this.complete) {
      this.#lentBytes = this.#queue.length;
      return this.#queue.takeAll();
    }
    this.#stream = new UploadStream(this);
    return this.#stream;
  }

  /** The call that sends what {@link toUpstream} gave out. */
  follow(call: UpstreamCall): void {
    if (this.#stream === undefined) return;
    this.#call = call;
    this.#budget.flows(this);
  }

  recount(): void {
    this.#account();
  }

  /** Lets the rest arrive and forgets it: the answer is already decided. `onComplete` is called at the last byte. */
  discard(onComplete: () => void): void {
    this.#drop();
    this.#onComplete = onComplete;
    this.resume();
  }

  /** Drops what is held; the request is over and the response object must not be touched any more. */
  release(): void {
    this.paused = false;
    this.#drop();
  }

  /** The upstream takes more: first what is held, then what the client sends. */
  pull(): void {
    const stream = this.#stream;
    if (stream === undefined) return;
    // Only what is pushed makes the stream ask again.
    let takesMore = true;
    while (takesMore && this.#queue.length > 0) takesMore = stream.push(this.#queue.shift());
    this.#account();
    if (this.#queue.length > 0) return;
    if (this.complete) stream.push(null);
    else if (takesMore) this.resume();
  }

  /** Starts the binding's idle timeout anew while the client has to wait. */
  keepOpen(): void {
    if (!this.paused) return;
    this.#res.pause();
    this.#res.resume();
    this.#res.pause();
  }

  /** To be called after a write that the client did not take whole: it has ended the pause. */
  staysPaused(): void {
    if (this.paused) this.#res.pause();
  }

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    this.#res.pause();
    this.#res.resume();
  }

  #collect(bytes: ArrayBuffer): void {
    if (this.#collector?.push(bytes) !== false) return;
    const onTooLarge = this.#onTooLarge;
    this.#drop();
    onTooLarge?.();
  }

  /** To the upstream when it takes more, else to the queue; the client then waits. */
  #pass(bytes: ArrayBuffer): void {
    const stream = this.#stream;
    if (stream !== undefined && !this.paused && this.#queue.length === 0) {
      // Destroyed: the upstream has answered without reading on, and the rest passes by.
      if (stream.destroyed || stream.push(copied(bytes))) return;
    } else {
      this.#queue.push(bytes);
    }
    if (!this.complete) this.#pause();
  }

  /** Tells the budget what is held now; answers whether that is more than before. */
  #account(): boolean {
    let held = this.#queue.memoryBytes + this.#lentBytes + (this.#collector?.bytes ?? 0);
    // An upstream that keeps up has taken all of it by now.
    if (this.#stream !== undefined) held += this.#stream.readableLength + (this.#call?.unsentBytes ?? 0);
    const change = held - this.#heldBytes;
    if (change === 0) return false;
    this.#heldBytes = held;
    this.#budget.change(change);
    return change > 0;
  }

  #refuse(denial: Denial): Denial {
    this.#drop();
    return denial;
  }

  #drop(): void {
    this.#discards = true;
    this.#onComplete = undefined;
    this.#onTooLarge = undefined;
    this.#queue.clear();
    this.#collector = undefined;
    if (this.#stream !== undefined) {
      this.#stream.destroy();
      this.#budget.flowed(this);
    }
    this.#stream = undefined;
    this.#call = undefined;
    this.#lentBytes = 0;
    this.#account();
  }

  #pause(): void {
    this.paused = true;
    this.#res.pause();
  }
}

/** The binding reuses the memory of a chunk when its callback returns. */
function copied(bytes: ArrayBuffer): Buffer {
  return Buffer.from(new Uint8Array(bytes));
}

/** Pulls the client along as the upstream takes bytes. */
class UploadStream extends Readable {
  readonly #body: RequestBody;

  constructor(body: RequestBody) {
    super({ highWaterMark: streamHighWaterMark });
    this.#body = body;
    // The call reports failures; a destroyed upload must not surface as an unhandled 'error' event.
    this.on('error', () => {});
  }

  override _read(): void {
    this.#body.pull();
  }
}
