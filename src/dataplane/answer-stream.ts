/**
 * The body of an answer on its way to the client, piece by piece and at the client's pace. Used for answers that do not
 * come whole in one read of the upstream's socket.
 *
 * Facts of the binding (measured on 20.48) that shape this file:
 * - `tryEnd('', n)` sends the head and announces n bytes; without a length the head waits for the first piece;
 * - `tryEnd` keeps nothing: what it did not send is ours to keep, and `getWriteOffset` says where it stopped;
 *   `write` keeps everything, and its buffer is sent on at the next `write` or `end`;
 * - `onWritable` is set once a response and is called whenever the kernel takes more;
 * - 10 s after a write that was not taken whole the connection is closed, even while the client reads: the kernel says
 *   that it takes more only when a third of its buffer is free. {@link AnswerStream.keepOpen} starts these 10 s anew.
 */
import { noLength } from '../http/response-head.js';
import type { HttpResponse } from './binding.js';

export interface AnswerStreamOwner {
  /** The client has taken what was there. */
  clientReady(): void;
  /** All that was announced has been handed over: the response is gone. */
  answerSent(): void;
}

export class AnswerStream {
  readonly #res: HttpResponse;
  readonly #owner: AnswerStreamOwner;
  /** Announced bytes, or `noLength`: chunks. */
  readonly #length: number;
  #unsent: Buffer | undefined;
  #unsentAt = 0;
  #isDone = false;
  /** The client takes no more for now. */
  blocked = false;
  /** Last moment the client took something while it was blocked, monotonic ms. */
  takenAtMs = 0;

  /** Its head must have been written, inside the same cork. */
  constructor(res: HttpResponse, length: number, owner: AnswerStreamOwner) {
    this.#res = res;
    this.#length = length;
    this.#owner = owner;
    res.onWritable((offset) => this.#writable(offset));
    if (length > 0) res.tryEnd('', length);
  }

  /** Whether the end of the body has to be said: it comes in chunks. */
  get isChunked(): boolean {
    return this.#length === noLength;
  }

  /** Sends a piece, inside a cork. Answers false when the client takes no more for now; the piece is taken all the same. */
  write(chunk: Buffer): boolean {
    if (this.#unsent !== undefined) {
      // The upstream was asked to pause, but what it had read already still comes.
      this.#unsent = Buffer.concat([this.#unsent, chunk]);
      return false;
    }
    return this.isChunked ? this.#took(this.#res.write(chunk)) : this.#writeAnnounced(chunk);
  }

  /** Starts the binding's timeout anew; call it while `blocked`. */
  keepOpen(): void {
    this.#res.resume();
  }

  #writeAnnounced(bytes: Buffer): boolean {
    const offset = this.#res.getWriteOffset();
    const [sent, done] = this.#res.tryEnd(bytes, this.#length);
    if (done) {
      this.#isDone = true;
      this.blocked = false;
      this.#owner.answerSent();
      return true;
    }
    this.#unsent = sent ? undefined : bytes;
    this.#unsentAt = offset;
    return this.#took(sent);
  }

  #took(whole: boolean): boolean {
    if (!whole && !this.blocked) this.takenAtMs = performance.now();
    this.blocked = !whole;
    return whole;
  }

  #writable(offset: number): boolean {
    this.takenAtMs = performance.now();
    if (this.#unsent !== undefined) {
      const rest = this.#unsent.subarray(offset - this.#unsentAt);
      this.#unsent = undefined;
      if (!this.#writeAnnounced(rest)) return false;
      if (this.#isDone) return true;
    }
    this.blocked = false;
    this.#owner.clientReady();
    return true;
  }
}
