/**
 * A request's body on its way in: held while the request is being decided, then handed to the upstream whole (when
 * it has arrived) or as a stream with backpressure.
 *
 * Facts of the binding this rests on: chunks must be copied (their memory is reused when the callback returns);
 * `pause` works inside the data callback only; a paused response does not notice that its client left.
 */
import { Readable } from 'node:stream';
import type { HttpResponse } from './binding.js';

/** Bytes a stream to the upstream holds before the client is paused. */
const streamHighWaterMark = 256 * 1024;

export class RequestBody {
  readonly #res: HttpResponse;
  /** Declared length in bytes, -1 for chunked. */
  readonly declared: number;
  received = 0;
  complete = false;
  /** Last moment anything moved, ms since process start; the idle sweep reads it. */
  movedAtMs: number;
  paused = false;
  #held: Buffer[] = [];
  #stream: UploadStream | undefined;
  #discarding = false;
  #onComplete: (() => void) | undefined;
  #onTooLarge: (() => void) | undefined;
  #collectMax = 0;

  constructor(res: HttpResponse, declared: number, nowMs: number) {
    this.#res = res;
    this.declared = declared;
    this.movedAtMs = nowMs;
  }

  /** The binding's data callback. */
  chunk(bytes: ArrayBuffer, isLast: boolean, nowMs: number): void {
    this.received += bytes.byteLength;
    this.movedAtMs = nowMs;
    if (isLast) this.complete = true;
    if (!this.#discarding) {
      // Copied: the binding reuses the memory when this returns.
      const copy = bytes.byteLength === 0 ? undefined : Buffer.from(new Uint8Array(bytes));
      if (this.#stream !== undefined) {
        if (copy !== undefined && !this.#stream.push(copy) && !isLast) this.#pause();
        if (isLast) this.#stream.push(null);
      } else {
        if (copy !== undefined) this.#held.push(copy);
        if (this.#collectMax > 0) {
          if (this.received > this.#collectMax) {
            this.#collectMax = 0;
            this.#onTooLarge?.();
            return;
          }
        } else if (!isLast) {
          this.#pause();
        }
      }
    }
    if (isLast) this.#onComplete?.();
  }

  /** Reads the whole body, at most `max` bytes, and tells when it is there or has grown too large. */
  collect(max: number, onComplete: () => void, onTooLarge: () => void): void {
    if (this.complete) {
      onComplete();
      return;
    }
    this.#collectMax = max;
    this.#onComplete = onComplete;
    this.#onTooLarge = onTooLarge;
    this.resume();
  }

  /** The collected bytes; only after `collect` completed. */
  whole(): Buffer {
    return this.#held.length === 1 ? (this.#held[0] as Buffer) : Buffer.concat(this.#held);
  }

  /** What the upstream is to send: the whole body when it has arrived, else a stream that follows the client. */
  toUpstream(): Buffer | Readable {
    if (this.complete) return this.whole();
    const stream = new UploadStream(this);
    for (const held of this.#held) stream.push(held);
    this.#held = [];
    this.#stream = stream;
    this.resume();
    return stream;
  }

  /** Lets the rest arrive and forgets it: the answer is already decided. `onComplete` is called at the last byte. */
  discard(onComplete: () => void): void {
    this.#discarding = true;
    this.#held = [];
    this.#onComplete = onComplete;
    this.#stream?.destroy();
    this.resume();
  }

  /** Drops what is held; the request is over and the response object must not be touched any more. */
  release(): void {
    this.paused = false;
    this.#discarding = true;
    this.#held = [];
    this.#onComplete = undefined;
    this.#stream?.destroy();
  }

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    this.#res.resume();
  }

  #pause(): void {
    if (this.paused) return;
    this.paused = true;
    this.#res.pause();
  }
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
