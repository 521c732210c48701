/**
 * The upstream's answer on its way to the client: whole where it came in one read, else as it comes.
 *
 * Facts of the binding (measured on 20.48) that shape this file, beside those of answer-stream.ts and whole-answer.ts:
 * - a streamed answer that is to end the connection says close in its head, and the client closes (or the binding, when
 *   the request said it in just five letters, or after 10 s);
 * - the idle timeout starts when an answer ends and stops for good at the last byte of a body that comes later: an
 *   answer to a request whose body has not ended closes, waits for the rest, or leaves it unread (paused) to time out.
 */
import type { Denial } from '../core/problems.js';
import { statusLine } from '../http/problem.js';
import { noLength, type ResponseHead, writeFields } from '../http/response-head.js';
import type { UpstreamCall, UpstreamSink } from '../upstream/call.js';
import { AnswerStream, type AnswerStreamOwner } from './answer-stream.js';
import type { HttpResponse } from './binding.js';
import type { RequestState } from './request-state.js';
import { endWhole } from './whole-answer.js';

/** What the relay needs of the request it answers. */
export interface RelayedRequest extends RequestState {
  readonly res: HttpResponse;
  /** The connection ends with the answer. */
  readonly closesConnection: boolean;
  /** An answer waits for the rest of the request's body. */
  readonly awaitsBody: boolean;
  /** The request's id and the limit fields: the value of `X-Request-Id`. */
  ownFields(): string;
  /** `then` is called when the rest of the request's body has passed by, or no more of it comes. */
  afterBody(then: () => void): void;
  /** The client waits for the upstream or the other way round: it has to be looked after. */
  watch(): void;
  refuse(denial: Denial, close: boolean): void;
  cut(outcome: string): void;
  finish(outcome: string): void;
}

/** Whole bodies up to this size leave with `end`: beside their head they fit into the cork buffer (answer-stream.ts). */
const wholeBytesMax = 8 * 1024;
const pokeFirstMs = 20;
const pokeLastMs = 1000;

export class Relay implements UpstreamSink, AnswerStreamOwner {
  /** Something of the answer may have left. */
  headWritten = false;
  readonly #request: RelayedRequest;
  readonly #startedAtMs = performance.now();
  #call: UpstreamCall | undefined;
  #head: ResponseHead | undefined;
  #upstreamDone = false;
  /** What came of the body before the head was written. */
  #early: Buffer[] = [];
  #flushQueued = false;
  /** Announced length. */
  #length: number = noLength;
  #stream: AnswerStream | undefined;
  #nextPoke: NodeJS.Timeout | undefined;

  /** To be made when the request is sent. */
  constructor(request: RelayedRequest) {
    this.#request = request;
  }

  /** The call whose answer this is. */
  follow(call: UpstreamCall): void {
    this.#call = call;
  }

  /** Stops the upstream's call. */
  abort(): void {
    this.#call?.abort();
    this.#call = undefined;
  }

  /** The exchange is over: nothing is sent any more. */
  release(): void {
    clearTimeout(this.#nextPoke);
    this.#early = [];
  }

  /** Whether the client takes no more of the answer for now. */
  get isBlocked(): boolean {
    return this.#stream?.blocked === true;
  }

  /** Tries whether a blocked client takes more; answers false when it has taken nothing for longer than `idleMs`. */
  pokeClient(nowMs: number, idleMs: number): boolean {
    const stream = this.#stream;
    if (stream?.blocked !== true) return true;
    if (nowMs - stream.takenAtMs > idleMs) return false;
    stream.poke();
    return true;
  }

  // ---- what the upstream's call tells

  upstreamAnswer(head: ResponseHead, body: Buffer): void {
    const request = this.#request;
    if (request.over) return;
    if (request.bodyIsComing || body.length > wholeBytesMax || endsWithHead(request.head.method, head.status)) {
      this.upstreamHead(head);
      if (body.length > 0) this.upstreamChunk(body);
      this.upstreamEnd();
      return;
    }
    this.#takeHead(head);
    this.#upstreamDone = true;
    this.headWritten = true;
    request.bytesOut = body.length;
    this.#head = head;
    this.#early.push(body);
    cork(this, request.res);
    request.finish('ok');
  }

  upstreamHead(head: ResponseHead): void {
    if (this.#request.over) return;
    this.#takeHead(head);
    this.#head = head;
    this.#flushSoon();
  }

  upstreamChunk(chunk: Buffer): boolean {
    if (this.#request.over) return true;
    if (!this.headWritten) {
      this.#early.push(Buffer.from(chunk));
      return true;
    }
    return this.#writeChunk(chunk);
  }

  upstreamEnd(): void {
    if (this.#request.over) return;
    this.#upstreamDone = true;
    if (this.headWritten) this.#endStream();
    else this.#flushSoon();
  }

  upstreamFailed(denial: Denial): void {
    const request = this.#request;
    if (request.over) return;
    if (request.upstreamMs === 0) request.upstreamMs = performance.now() - this.#startedAtMs;
    request.refuse(denial, false);
  }

  // ---- what the stream to the client tells

  clientBlocked(): void {
    const request = this.#request;
    request.watch();
    if (!request.bodyIsComing || this.#stream === undefined) return;
    request.body?.staysPaused();
    this.#pokeUntilReady(this.#stream);
  }

  clientReady(): void {
    if (this.#request.over) return;
    if (this.#upstreamDone) this.#endStream();
    else this.#call?.resume();
  }

  answerSent(): void {
    this.#request.finish('ok');
  }

  /** With a paused body the binding does not say that the client takes more: ask, or the two wait for each other. */
  #pokeUntilReady(stream: AnswerStream, delayMs = pokeFirstMs): void {
    if (this.#nextPoke !== undefined) return;
    const request = this.#request;
    this.#nextPoke = setTimeout(() => {
      if (!request.over && stream.blocked) stream.poke();
      this.#nextPoke = undefined;
      if (request.over || !stream.blocked || !request.bodyIsComing) return;
      this.#pokeUntilReady(stream, Math.min(delayMs * 2, pokeLastMs));
    }, delayMs);
  }

  // ---- writing

  #takeHead(head: ResponseHead): void {
    this.#request.status = head.status;
    this.#request.upstreamMs = performance.now() - this.#startedAtMs;
  }

  /** One flush when this read of the upstream's socket is done: a short answer then leaves in one write. */
  #flushSoon(): void {
    if (this.#flushQueued) return;
    this.#flushQueued = true;
    if (flushQueue.push(this) === 1) queueMicrotask(flushAll);
  }

  flush(): void {
    this.#flushQueued = false;
    const request = this.#request;
    if (request.over || this.headWritten) return;
    // Such an answer ends with its head, so it waits for the rest of the body.
    if (this.#isBodiless && request.bodyIsComing && !request.awaitsBody) {
      request.afterBody(() => this.#startAnswer());
    } else {
      this.#startAnswer();
    }
  }

  /** Head and body in one: {@link Relay.upstreamAnswer} inside its cork. */
  writeWhole(): void {
    const { res, head, closesConnection } = this.#request;
    this.#writeHead();
    endWhole(res, this.#early[0] as Buffer, closesConnection, head.connection);
  }

  #startAnswer(): void {
    const request = this.#request;
    request.res.cork(() => this.#writeHeadAndShortBody());
    // Chunks have corks of their own: see answer-stream.ts.
    for (const chunk of this.#early) {
      if (request.over) break;
      this.#writeChunk(chunk);
    }
    this.#early = [];
    if (this.#upstreamDone && !request.over) this.#endStream();
  }

  #writeHeadAndShortBody(): void {
    const request = this.#request;
    const { res, closesConnection } = request;
    this.headWritten = true;
    this.#length = this.#writeHead();
    if (this.#isBodiless) {
      this.#endBodiless();
      return;
    }
    if (this.#upstreamDone && !request.bodyIsComing) {
      const early = this.#early;
      const whole = early.length === 1 ? (early[0] as Buffer) : Buffer.concat(early);
      if (whole.length <= wholeBytesMax) {
        request.bytesOut = whole.length;
        endWhole(res, whole, closesConnection, request.head.connection);
        request.finish('ok');
        return;
      }
      this.#early = [whole];
      this.#length = whole.length;
    }
    if (closesConnection) res.writeHeader('Connection', 'close');
    // An answer of announced length would end by itself, before the body has: see the head of this file.
    if (request.bodyIsComing) this.#length = noLength;
    this.#stream = new AnswerStream(res, this.#length, this);
    if (this.#stream.isChunked) return;
    const early = this.#early;
    this.#early = [];
    for (const chunk of early) {
      if (request.over) return;
      this.#writeChunk(chunk);
    }
  }

  /** Writes status line and fields; answers the length that the upstream announced. */
  #writeHead(): number {
    const request = this.#request;
    const head = this.#head as ResponseHead;
    this.#head = undefined;
    if (request.status !== 200) request.res.writeStatus(statusLine(request.status));
    writeFields(head, request.res, 'X-Request-Id', request.ownFields());
    return head.length;
  }

  #endBodiless(): void {
    const { res, status, closesConnection } = this.#request;
    if (closesConnection) res.writeHeader('Connection', 'close');
    if (this.#length !== noLength && status !== 204) res.writeHeader('Content-Length', String(this.#length));
    this.#endPaused(() => res.endWithoutBody());
  }

  /** Ends the answer. What has not come of the request's body stays unread, so that the idle timeout ends it. */
  #endPaused(end: () => void): void {
    const request = this.#request;
    if (request.bodyIsComing) request.res.pause();
    end();
    request.finish('ok');
  }

  /** Answers false when the client takes no more for now. */
  #writeChunk(chunk: Buffer): boolean {
    this.#request.bytesOut += chunk.length;
    return this.#stream?.write(chunk) ?? true;
  }

  /** The upstream's answer is complete, or has become so and the client has taken what came before. */
  #endStream(): void {
    const request = this.#request;
    if (this.isBlocked) return;
    // An announced length ends by itself: less than that is a cut answer.
    if (this.#stream?.isChunked === false) request.cut('upstream-invalid-response');
    else if (request.bodyIsComing) request.afterBody(() => this.#endChunks());
    else this.#endChunks();
  }

  #endChunks(): void {
    const { res } = this.#request;
    res.cork(() => this.#endPaused(() => res.end()));
  }

  /** Whether the upstream's answer ends with its head. */
  get #isBodiless(): boolean {
    return endsWithHead(this.#request.head.method, this.#request.status);
  }
}

/** RFC 9112 section 6.3, rule 1. */
function endsWithHead(method: string, status: number): boolean {
  return method === 'HEAD' || status === 204 || status === 304;
}

// One function for the corks of all whole answers, instead of a closure each: a cork calls it at once.
let corked: Relay | undefined;
const writeCorked = (): void => corked?.writeWhole();

function cork(relay: Relay, res: HttpResponse): void {
  corked = relay;
  res.cork(writeCorked);
  corked = undefined;
}

let flushQueue: Relay[] = [];

function flushAll(): void {
  const relays = flushQueue;
  flushQueue = [];
  for (const relay of relays) relay.flush();
}
