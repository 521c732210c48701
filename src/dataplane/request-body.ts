/**
 * A request's body on its way in: held while the request is being decided, then handed to the upstream whole (when
 * it has arrived) or as a stream with backpressure.
 *
 * Facts of the binding this rests on: chunks must be copied (their memory is reused when the callback returns); one
 * read may bring several chunks of a chunked body; `pause` takes effect at the next read; a paused response notices a
 * reset of its client, but not a mere close; its idle timeout (10 s, once 160 KB have come) goes on, and `resume` starts
 * it anew.
 */
import { Readable } from 'node:stream';
import type { BodyCollector } from '../credential/signed-body.js';
import { chunkedLength } from '../http/request-head.js';
import type { HttpResponse } from './binding.js';

/** Bytes a stream to the upstream holds before the client is paused. */
const streamHighWaterMark = 256 * 1024;

export class RequestBody {
  readonly #res: HttpResponse;
  /** Declared length in bytes, {@link chunkedLength} when it is not known. */
  readonly declared: number;
  /** Most bytes a body of unknown length may have; 0 is no limit. */
  readonly #bytesMax: number;
  received = 0;
  complete = false;
  /** Last moment anything moved, monotonic ms; the idle sweep reads it. */
  movedAtMs: number;
  /** The client is not read from: the upstream, or the decision, is slower. */
  paused = false;
  #take: (bytes: ArrayBuffer) => void;
  #held: Buffer[] = [];
  #collector: BodyCollector | undefined;
  #stream: UploadStream | undefined;
  #onComplete: (() => void) | undefined;

  constructor(res: HttpResponse, declared: number, bytesMax: number, nowMs: number) {
    this.#res = res;
    this.declared = declared;
    this.#bytesMax = bytesMax;
    this.movedAtMs = nowMs;
    this.#take = (bytes) => this.#hold(bytes);
  }

  /** Bytes still to come, Infinity when that is not known. */
  get remaining(): number {
    return this.declared === chunkedLength ? Number.POSITIVE_INFINITY : this.declared - this.received;
  }

  /** The binding's data callback. Answers false once the body is larger than it may be; what comes is then dropped. */
  chunk(bytes: ArrayBuffer, isLast: boolean, nowMs: number): boolean {
    this.received += bytes.byteLength;
    this.movedAtMs = nowMs;
    this.complete = isLast;
    if (this.#bytesMax > 0 && this.received > this.#bytesMax) {
      this.#drop();
      return false;
    }
    if (bytes.byteLength > 0) this.#take(bytes);
    if (isLast) {
      this.#stream?.push(null);
      this.#onComplete?.();
    }
    return true;
  }

  /**
   * Reads the whole body into `collector` from its first byte on, and tells when it is there or has grown too large
   * (a chunked one; a declared length is checked before).
   */
  collect(collector: BodyCollector, onComplete: () => void, onTooLarge: () => void): void {
    this.#collector = collector;
    this.#onComplete = onComplete;
    this.#take = (bytes) => {
      if (collector.push(bytes)) return;
      this.#drop();
      onTooLarge();
    };
  }

  /** What the upstream is to send: the whole body when it has arrived, else a stream that follows the client. */
  toUpstream(): Buffer | Readable {
    if (this.#collector !== undefined) return this.#collector.body();
    if (this.complete) return this.#held.length === 1 ? (this.#held[0] as Buffer) : Buffer.concat(this.#held);
    const stream = new UploadStream(this);
    for (const held of this.#held) stream.push(held);
    this.#held = [];
    this.#stream = stream;
    this.#take = (bytes) => {
      // The upstream has answered without reading on: the rest passes by.
      if (stream.destroyed) return;
      if (!stream.push(copied(bytes)) && !this.complete) this.#pause();
    };
    this.resume();
    return stream;
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

  /** Starts the binding's idle timeout anew while the client has to wait. */
  keepOpen(): void {
    if (!this.paused) return;
    this.#res.resume();
    this.#res.pause();
  }

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    this.#res.resume();
  }

  /** One read's worth waits for the decision; the client waits with the rest. */
  #hold(bytes: ArrayBuffer): void {
    this.#held.push(copied(bytes));
    if (!this.complete) this.#pause();
  }

  #drop(): void {
    this.#take = () => {};
    this.#onComplete = undefined;
    this.#held = [];
    this.#collector = undefined;
    this.#stream?.destroy();
    this.#stream = undefined;
  }

  #pause(): void {
    if (this.paused) return;
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
    this.#body.resume();
  }
}
