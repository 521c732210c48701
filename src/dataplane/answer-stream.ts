/**
 * The body of an answer on its way to the client, piece by piece and at the client's pace. Used for answers that do not
 * come whole in one read of the upstream's socket.
 *
 * Facts of the binding (measured on 20.48) that shape this file:
 * - `tryEnd('', n)` sends the head and announces n bytes; without a length the head waits for the first piece;
 * - `tryEnd` keeps nothing: what it did not send is ours to keep, and `getWriteOffset` says where it stopped;
 * - `write` keeps what was not sent, and it is sent on by the next `write`, `end` or cork, an empty one too. But bytes
 *   that do not fit into the cork buffer (16 KiB) are LOST, between the lines that frame them, when what the buffer held
 *   before cannot be sent whole (https://github.com/uNetworking/uWebSockets.js/issues/1249). So each `write` has a cork
 *   of its own, into which it fits; that the client takes no more is then known one `write` later;
 * - `onWritable` is set once a response, and is called when the kernel takes more, but never while the request's body is
 *   paused;
 * - 10 s after a write that was not taken whole the connection is closed, even while the client reads slowly: the kernel
 *   says that it takes more only when a third of its buffer is free. A further write starts the 10 s anew.
 *
 * So something is always left to write while the client takes no more, and {@link AnswerStream.poke} tries.
 */
import { noLength } from '../http/response-head.js';
import type { HttpResponse } from './binding.js';

export interface AnswerStreamOwner {
  /** The client takes no more for now; told after every write that was not taken whole. */
  clientBlocked(): void;
  /** The client has taken what was there. */
  clientReady(): void;
  /** All that was announced has been handed over: the response is gone. */
  answerSent(): void;
}

/** Most bytes of one `write`: with their framing and a first `Transfer-Encoding` they fit into the cork buffer. */
const corkedBytesMax = 15 * 1024;
/** Chunked answers: pieces from this size on are written without their end first, which is left for as many pokes. */
const dividedFrom = 4096;
const leftBytes = 1024;

export class AnswerStream {
  readonly #res: HttpResponse;
  readonly #owner: AnswerStreamOwner;
  /** Announced bytes, or `noLength`: chunks. */
  readonly #length: number;
  /** What came since the client takes no more, or was left for `poke`. */
  #waiting: Buffer | undefined;
  /** Announced answers: write offset at which `#waiting` begins. */
  #waitingAt = 0;
  #isDone = false;
  /** The client takes no more for now. */
  blocked = false;
  /** Last moment the client took something while it was blocked, monotonic ms. */
  takenAtMs = 0;

  /** Its head must have been written; an announced one inside the same cork. */
  constructor(res: HttpResponse, length: number, owner: AnswerStreamOwner) {
    this.#res = res;
    this.#length = length;
    this.#owner = owner;
    res.onWritable(() => {
      this.takenAtMs = performance.now();
      if (this.#waiting === undefined) this.#sendKept();
      return this.#advance();
    });
    if (length > 0) res.tryEnd('', length);
  }

  /** Whether the end of the body has to be said: it comes in chunks. */
  get isChunked(): boolean {
    return this.#length === noLength;
  }

  /**
   * Sends a piece; a chunk outside of any cork. Answers false when the client takes no more for now; the piece is taken
   * all the same, and its memory is the caller's again when this returns.
   */
  write(piece: Buffer): boolean {
    if (!this.blocked) {
      const taken = this.#send(piece);
      if (this.#waiting !== undefined) this.#waiting = Buffer.from(this.#waiting);
      return taken;
    }
    // The upstream was asked to pause, but what it had read already still comes.
    this.#waiting = this.#waiting === undefined ? Buffer.from(piece) : Buffer.concat([this.#waiting, piece]);
    return false;
  }

  /** Tries, outside of any cork, whether the client takes more; call it from time to time while `blocked`. */
  poke(): void {
    if (this.#waiting === undefined) {
      // Nothing is left that could show it: the next piece of the upstream will.
      this.#sendKept();
      this.#advance();
      return;
    }
    if (!this.isChunked) {
      const before = this.#res.getWriteOffset();
      this.#advance();
      if (!this.#isDone && this.#res.getWriteOffset() > before) this.takenAtMs = performance.now();
      return;
    }
    const byte = this.#waiting.subarray(0, 1);
    this.#waiting = this.#waiting.length === 1 ? undefined : this.#waiting.subarray(1);
    if (!this.#writeCorked(byte)) {
      this.#owner.clientBlocked();
      return;
    }
    this.takenAtMs = performance.now();
    this.#advance();
  }

  /** The client may take more: what waits goes first. Answers whether all of it went. */
  #advance(): boolean {
    let waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting !== undefined) {
      if (!this.isChunked) waiting = waiting.subarray(this.#res.getWriteOffset() - this.#waitingAt);
      if (!this.#send(waiting)) return false;
    }
    this.blocked = false;
    if (!this.#isDone) this.#owner.clientReady();
    return true;
  }

  #send(piece: Buffer): boolean {
    const taken = this.isChunked ? this.#sendChunk(piece) : this.#sendAnnounced(piece);
    if (!taken && !this.blocked) this.takenAtMs = performance.now();
    this.blocked = !taken;
    if (!taken) this.#owner.clientBlocked();
    return taken;
  }

  #sendAnnounced(piece: Buffer): boolean {
    const offset = this.#res.getWriteOffset();
    const [sent, done] = this.#res.tryEnd(piece, this.#length);
    if (done) {
      this.#isDone = true;
      this.#owner.answerSent();
    } else if (!sent) {
      this.#waiting = piece;
      this.#waitingAt = offset;
    }
    return sent || done;
  }

  #sendChunk(piece: Buffer): boolean {
    const firstEnd = piece.length < dividedFrom ? piece.length : piece.length - leftBytes;
    for (let at = 0; at < piece.length; ) {
      const end = Math.min(at + corkedBytesMax, at < firstEnd ? firstEnd : piece.length);
      const taken = this.#writeCorked(piece.subarray(at, end));
      at = end;
      if (taken) continue;
      this.#waiting = at < piece.length ? piece.subarray(at) : undefined;
      return false;
    }
    return true;
  }

  #writeCorked(bytes: Buffer): boolean {
    let taken = true;
    this.#res.cork(() => {
      taken = this.#res.write(bytes);
    });
    return taken;
  }

  /** What `write` has kept; of an announced answer nothing. */
  #sendKept(): void {
    this.#res.cork(() => {});
  }
}
