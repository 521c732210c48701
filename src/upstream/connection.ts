/**
 * One connection to the upstream, and the one request at a time that it carries.
 *
 * Invariant: a connection goes back to its pool only when the request was sent whole, the answer was read whole, and
 * not a byte came after it. Whatever else happens (abort, a broken answer, bytes nobody asked for, a timeout) destroys
 * it, so no answer can be taken for another request's.
 *
 * Hot path: one write a request, a text that the socket encodes itself; reads go into one buffer for all connections,
 * and a short answer is handed over from it without a copy; no timer, promise or closure a request.
 */
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { Denial } from '../core/problems.js';
import type { Clock } from './clock.js';
import { invalidResponse, isOwnLack, lossDenial, outOfDescriptors, upstreamTimedOut } from './failure.js';
import type { Carrier, PendingCall } from './pending-call.js';
import { parsed, ResponseParser } from './response-parser.js';
import { Upload, type UploadOwner } from './upload.js';

export interface ConnectionTimes {
  readonly connectTimeoutMs: number;
  /** Longest wait for the head of an answer. */
  readonly headTimeoutMs: number;
  /** Longest silence between two pieces of an answer, or until the upstream takes more of a request. */
  readonly idleTimeoutMs: number;
  /** Longest time without a request. */
  readonly keepAliveMs: number;
  /** Age from which on it takes no further request. */
  readonly maxAgeMs: number;
}

/** What becomes of connections and their calls; the pool decides. */
export interface ConnectionOwner {
  readonly times: ConnectionTimes;
  readonly clock: Clock;
  /** It can carry the next request. */
  released(connection: Connection): void;
  /** It is gone. */
  closed(connection: Connection): void;
  /** It never came to stand: nothing of the call was sent. */
  refused(call: PendingCall): void;
  /** It was given up by the upstream before it read the request, as far as can be told (RFC 9112 section 9.3.1). */
  lostReused(call: PendingCall): void;
  /** An answer came whole (true), or could not be had by the upstream's fault. */
  judged(isGood: boolean): void;
}

/** Opens a socket that reads into `buffer`; `whenReady` is called when it can be written to. */
export type OpenSocket = (buffer: Buffer, onRead: (bytes: number) => boolean, whenReady: () => void) => Socket;

/** All connections read into it: what is in it holds until the reader returns. */
const readBuffer = Buffer.allocUnsafeSlow(64 * 1024);
const nothing = Buffer.alloc(0);

/** Bodies up to this size go out in the write of the head. */
const joinedBytesMax = 16 * 1024;
/** An upstream that says how long it keeps connections is believed, less this much for the way. */
const keepAliveMarginMs = 1000;

export class Connection implements Carrier, UploadOwner {
  /** When it has to move on, coarse clock; {@link expired} is called then. */
  deadlineMs: number;
  readonly #owner: ConnectionOwner;
  readonly #socket: Socket;
  readonly #parser = new ResponseParser();
  readonly #openedAtMs: number;
  #call: PendingCall | undefined;
  #upload: Upload | undefined;
  #isReady = false;
  #isClosed = false;
  /** It has carried an answer, so the upstream may have given it up since. */
  #isReused = false;
  /** Bytes came since the request was sent. */
  #answerBegun = false;
  #headSeen = false;
  /** The sink takes no more for now. */
  #isPaused = false;
  #keepAlive = '';
  #keepAliveMs: number;

  /** Opens it for `call`. */
  constructor(owner: ConnectionOwner, open: OpenSocket, call: PendingCall) {
    this.#owner = owner;
    this.#openedAtMs = owner.clock.nowMs;
    this.#keepAliveMs = owner.times.keepAliveMs;
    this.deadlineMs = owner.clock.after(owner.times.connectTimeoutMs);
    this.#call = call;
    call.carrier = this;
    const socket = open(
      readBuffer,
      (bytes) => this.#read(bytes),
      () => this.#ready(),
    );
    this.#socket = socket;
    socket.on('end', () => this.#ended());
    socket.on('error', (error: NodeJS.ErrnoException) => this.#lost(error.code ?? ''));
    socket.on('close', () => this.#lost(''));
  }

  /** Sends a request; the connection is idle. */
  send(call: PendingCall): void {
    this.#call = call;
    call.carrier = this;
    this.#write(call);
  }

  destroy(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#upload?.stop();
    this.#upload = undefined;
    if (this.#call !== undefined) this.#call.carrier = undefined;
    this.#call = undefined;
    this.#socket.destroy();
    this.#owner.closed(this);
  }

  /** Ends it and fails the call it carries. */
  breakOff(denial: Denial): void {
    const call = this.#call;
    this.destroy();
    call?.fail(denial);
  }

  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#expectMore();
    this.#socket.resume();
  }

  /** Its deadline has passed. */
  expired(): void {
    const call = this.#call;
    if (call === undefined) {
      this.destroy();
    } else if (this.#isReady) {
      this.#owner.judged(false);
      this.breakOff(upstreamTimedOut);
    } else {
      this.destroy();
      this.#owner.refused(call);
    }
  }

  // ---- the request

  #ready(): void {
    if (this.#isClosed) return;
    this.#isReady = true;
    if (this.#call !== undefined) this.#write(this.#call);
  }

  #write(call: PendingCall): void {
    const { head, toHead, body, bodyLength } = call.request;
    this.#answerBegun = false;
    this.#headSeen = false;
    this.#parser.begin(toHead);
    this.deadlineMs = call.deadlineMs;
    const socket = this.#socket;
    if (body === null) {
      socket.write(head, 'latin1');
    } else if (!Buffer.isBuffer(body)) {
      this.#sendInPieces(head, body, bodyLength);
    } else if (body.length <= joinedBytesMax) {
      socket.write(head + body.toString('latin1'), 'latin1');
    } else {
      socket.cork();
      socket.write(head, 'latin1');
      socket.write(body);
      socket.uncork();
    }
  }

  /** While a body is on its way the answer cannot be late. */
  #sendInPieces(head: string, body: Readable, length: number): void {
    this.deadlineMs = Number.POSITIVE_INFINITY;
    this.#socket.write(head, 'latin1');
    this.#upload = new Upload(this.#socket, body, length, this);
  }

  uploaded(): void {
    this.#upload = undefined;
    if (!this.#headSeen) this.deadlineMs = this.#owner.clock.after(this.#owner.times.headTimeoutMs);
    else if (!this.#isPaused) this.#expectMore();
  }

  uploadBroke(): void {
    this.#upload = undefined;
    this.breakOff(lossDenial('', this.#answerBegun));
  }

  uploadBlocked(isBlocked: boolean): void {
    const { times, clock } = this.#owner;
    if (!isBlocked) this.deadlineMs = Number.POSITIVE_INFINITY;
    else this.deadlineMs = clock.after(this.#headSeen ? times.idleTimeoutMs : times.headTimeoutMs);
  }

  // ---- the answer

  /** `bytes` have come into the shared buffer. Answers false to be read from no further. */
  #read(bytes: number): boolean {
    const call = this.#call;
    if (call === undefined) {
      // Nobody asked for them.
      this.destroy();
      return false;
    }
    this.#answerBegun = true;
    const parser = this.#parser;
    parser.at = 0;
    for (;;) {
      switch (parser.next(readBuffer, bytes)) {
        case parsed.more:
          if (this.#headSeen && !this.#isPaused) this.#expectMore();
          return !this.#isPaused;
        case parsed.head:
          this.#headSeen = true;
          if (parser.bodyBytesLeft >= 0 && parser.bodyBytesLeft <= bytes - parser.at) {
            return this.#whole(call, bytes);
          }
          call.sink.upstreamHead(parser.head);
          break;
        case parsed.piece:
          if (!call.sink.upstreamChunk(readBuffer.subarray(parser.from, parser.at))) this.#pause();
          break;
        case parsed.end:
          call.settled = true;
          call.sink.upstreamEnd();
          return this.#complete(bytes);
        case parsed.invalid:
          this.#owner.judged(false);
          this.breakOff(invalidResponse);
          return false;
      }
      if (this.#isClosed) return false;
    }
  }

  /** All of the body came with the head: one call, and no copy. */
  #whole(call: PendingCall, bytes: number): boolean {
    const parser = this.#parser;
    const from = parser.at;
    while (parser.next(readBuffer, bytes) !== parsed.end);
    call.settled = true;
    call.sink.upstreamAnswer(parser.head, from === parser.at ? nothing : readBuffer.subarray(from, parser.at));
    return this.#complete(bytes);
  }

  /** The answer is complete, and the sink has heard so. */
  #complete(bytes: number): boolean {
    const { head, isBodiless, at } = this.#parser;
    this.#owner.judged(true);
    if (this.#isClosed) return false;
    if (this.#call !== undefined) this.#call.carrier = undefined;
    this.#call = undefined;
    const { times, clock } = this.#owner;
    const saysBody = isBodiless && head.status === 204 && (head.isChunked || head.length > 0);
    const isInStep = at === bytes && this.#upload === undefined && this.#socket.writableLength === 0;
    if (!isInStep || head.closes || saysBody || clock.nowMs - this.#openedAtMs >= times.maxAgeMs) {
      this.destroy();
      return false;
    }
    this.#isReused = true;
    if (this.#isPaused) {
      this.#isPaused = false;
      this.#socket.resume();
    }
    if (head.keepAlive !== this.#keepAlive) this.#takeKeepAlive(head.keepAlive);
    this.deadlineMs = clock.nowMs + this.#keepAliveMs;
    this.#owner.released(this);
    return true;
  }

  #takeKeepAlive(value: string): void {
    this.#keepAlive = value;
    const { keepAliveMs } = this.#owner.times;
    const seconds = /(?:^|[,;\s])timeout=(\d{1,6})(?:$|[,;\s])/i.exec(value)?.[1];
    this.#keepAliveMs =
      seconds === undefined
        ? keepAliveMs
        : Math.min(keepAliveMs, Math.max(0, Number(seconds) * 1000 - keepAliveMarginMs));
  }

  #pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.deadlineMs = Number.POSITIVE_INFINITY;
    this.#socket.pause();
  }

  #expectMore(): void {
    this.deadlineMs = this.#owner.clock.after(this.#owner.times.idleTimeoutMs);
  }

  // ---- its end

  /** The upstream closed its side. */
  #ended(): void {
    const call = this.#call;
    if (!this.#isClosed && call !== undefined && this.#headSeen && this.#parser.finish()) {
      call.settled = true;
      call.sink.upstreamEnd();
      this.#owner.judged(true);
      this.destroy();
      return;
    }
    this.#lost('');
  }

  /** It is gone, by an error or a plain end. */
  #lost(code: string): void {
    if (this.#isClosed) return;
    const call = this.#call;
    this.destroy();
    if (call === undefined) return;
    if (!this.#isReady) {
      if (isOwnLack(code)) call.fail(outOfDescriptors);
      else this.#owner.refused(call);
    } else if (this.#isReused && !this.#answerBegun && code !== 'ETIMEDOUT') {
      this.#owner.lostReused(call);
    } else {
      this.#owner.judged(false);
      call.fail(lossDenial(code, this.#answerBegun));
    }
  }
}
