/**
 * One request and its answer: what is known of it, and the only code that touches its response object.
 *
 * Facts of the binding (measured on 20.48) that shape this file:
 * - every answer leaves from a macrotask after the handler: the parser then closes on a pipelined second request;
 * - `end(body, true)` writes `Connection: close` at the point it has reached, so it may end only an answer of which
 *   nothing was written yet: streamed answers say close in their head, and the client closes (or the binding, when the
 *   request said it in just five letters, or after 10 s);
 * - `endWithoutBody(n)` leaves the answer pending, `endWithoutBody(undefined, true)` writes a length of 2^63 - 1: HEAD
 *   writes Content-Length itself and calls it without arguments;
 * - every call into it costs 0.1 to 0.2 us, and what `writeHeader` is given as a value is written as it is: fields of ours
 *   are one text with line breaks in it, which rides behind the first of them;
 * - a response must not be touched after it was ended or aborted: `over` guards every entry;
 * - the idle timeout starts when an answer ends and stops for good at the last byte of a body that comes later: an
 *   answer to a request whose body has not ended closes, waits for the rest, or leaves it unread (paused) to time out.
 */
import type { AdmissionTicket, LeaseQuestion, Verdict } from '../admission/admit.js';
import { retryAfterS } from '../admission/rate-headers.js';
import { inPollPhase } from '../core/poll-phase.js';
import type { Denial } from '../core/problems.js';
import type { Credential } from '../credential/extract.js';
import { emptyBodySha256 } from '../credential/hmac.js';
import { renderDenial, statusLine } from '../http/problem.js';
import type { RequestHead } from '../http/request-head.js';
import { noLength, type ResponseHead, writeFields } from '../http/response-head.js';
import type { Route } from '../policy/routes.js';
import type { PreparedTenant, PreparedToken } from '../token/cache.js';
import type { UpstreamCall, UpstreamSink } from '../upstream/call.js';
import { upstreamTimedOut } from '../upstream/failure.js';
import { AnswerStream, type AnswerStreamOwner } from './answer-stream.js';
import type { AuthorizationSubject } from './authorize.js';
import type { HttpResponse } from './binding.js';
import type { RequestBody } from './request-body.js';

/** What an exchange needs of the pipeline; the pipeline alone knows the order of the stages. */
export interface ExchangeOwner {
  settled(exchange: Exchange, verdict: Verdict): void;
  finished(exchange: Exchange): void;
  /** Sends an admitted request to the upstream. */
  forward(exchange: Exchange): void;
  /** The limit fields of an admitted or refused request, each begun by CR LF; '' when there are none. */
  limitFields(exchange: Exchange): string;
  readonly draining: boolean;
  /** Those of which one side waits for the other; {@link Exchange.check} is called for them. */
  readonly watched: Set<Exchange>;
}

/** Status recorded for a client that left before its answer (nginx' convention). */
const clientClosedStatus = 499;

/** A refused body up to this size is read to its end first, so that its sender does not meet a reset connection. */
const awaitedBodyBytesMax = 256 * 1024;
/** Whole bodies up to this size leave with `end`: beside their head they fit into the cork buffer (answer-stream.ts). */
const wholeBytesMax = 8 * 1024;
const pokeFirstMs = 20;
const pokeLastMs = 1000;
/** A client that has sent nothing of its body for this long waits for its answer, ms. */
const quietBodyMs = 1000;

export class Exchange implements AdmissionTicket, AuthorizationSubject, UpstreamSink, AnswerStreamOwner {
  readonly #owner: ExchangeOwner;
  readonly res: HttpResponse;
  readonly head: RequestHead;
  readonly startedAtMs: number;
  body: RequestBody | undefined;

  // What the stages found out, in their order.
  requestId = '';
  /** What is asked for; on the verify plane another request's than the one that is answered. */
  method = '';
  clientAddress = '';
  /** The host the client asked for, behind a trusted proxy too. */
  host = '';
  secure = false;
  /** Path and query as sent (what a signature covers), and as matched and forwarded. */
  targetAsSent = '';
  path = '';
  target = '';
  route: Route | undefined;
  credential: Credential | undefined;
  /** The id behind a foreign token was remembered, not looked up for this request. */
  foreignFromCache = false;
  /** Lower-case hex; of the empty body until one was read. */
  bodySha256Hex = emptyBodySha256;
  /** Who asks wants the decision only: nothing is forwarded. */
  readonly isQuestion: boolean = false;
  /** The principal: set once the secret proved right. */
  token: PreparedToken | undefined;
  tenant: PreparedTenant | undefined;
  /** The refusal decided under the cached record; it stands once Redis has confirmed the record's version. */
  pending: Denial | undefined;
  /** Times the record moved while this request was being decided. */
  rounds = 0;

  // Admission ticket (see AdmissionTicket for units).
  tokenKey = '';
  tokenVersion = 0;
  tenantKey = '';
  tenantVersion = 0;
  cost = 0;
  notBeforeMs = 0;
  notAfterMs = 0;
  claimKey = '';
  claimUntilMs = 0;
  leasable = false;
  lease: LeaseQuestion | null = null;
  waitingSinceMs = 0;
  cancelled = false;

  // The verdict's limit state, kept for the answer's headers.
  limitIndex = -1;
  remaining = 0;
  resetMs = 0;
  retryMs = 0;

  // The answer.
  over = false;
  status = 0;
  outcome = '';
  bytesOut = 0;
  upstreamStartedAtMs = 0;
  upstreamMs = 0;
  #call: UpstreamCall | undefined;
  /** A refusal is on its way: a verdict that comes before it changes nothing. */
  #isAbandoned = false;
  #upstreamHead: ResponseHead | undefined;
  #headWritten = false;
  #upstreamDone = false;
  #early: Buffer[] = [];
  #flushQueued = false;
  /** An answer of our own: its fields behind `X-Request-Id`, its body, and whether it ends the connection. */
  #wholeHead = '';
  #wholeText = '';
  #wholeCloses = false;
  /** Announced length of the upstream's answer. */
  #length: number = noLength;
  #stream: AnswerStream | undefined;
  #nextPoke: NodeJS.Timeout | undefined;
  /** What is left to do when the rest of the request's body has passed by. */
  #afterBody: (() => void) | undefined;

  constructor(owner: ExchangeOwner, res: HttpResponse, head: RequestHead, startedAtMs: number) {
    this.#owner = owner;
    this.res = res;
    this.head = head;
    this.startedAtMs = startedAtMs;
  }

  admissionSettled(verdict: Verdict): void {
    if (!this.over && !this.#isAbandoned) this.#owner.settled(this, verdict);
  }

  /** The binding's abort callback: the client left, or the binding refused the framing itself. */
  aborted(): void {
    if (this.over) return;
    this.#call?.abort();
    if (this.status === 0) this.status = clientClosedStatus;
    this.#finish('client-closed');
  }

  /** Cuts the connection: the answer is recognisably incomplete. */
  cut(outcome: string): void {
    if (this.over) return;
    this.#call?.abort();
    this.#close();
    this.#finish(outcome);
  }

  /** Sends a whole body. Where the request said close in five letters, the binding closes without saying so. */
  #endWhole(body: string | Buffer, closing: boolean): void {
    if (closing && this.head.connection.length === 5) this.res.writeHeader('Connection', 'close');
    this.res.end(body, closing);
  }

  /** Closes the connection, which calls the binding's abort callback. */
  #close(): void {
    this.over = true;
    this.res.close();
    this.over = false;
  }

  /** The request cannot be carried on (its body is too large): whatever is under way ends, and the connection too. */
  abandon(denial: Denial): void {
    this.#isAbandoned = true;
    this.#call?.abort();
    this.#call = undefined;
    inPollPhase(() => this.refuse(denial, true));
  }

  /**
   * Looks after a request while one side waits for the other; called every second. `idleMs`: longest standstill.
   * Answers whether it has to be called again.
   */
  check(nowMs: number, idleMs: number): boolean {
    if (this.over) return false;
    const { body } = this;
    const stream = this.#stream;
    if (stream?.blocked === true) {
      if (nowMs - stream.takenAtMs > idleMs) {
        this.cut('client-closed');
        return false;
      }
      stream.poke();
      if (this.over) return false;
    }
    if (body !== undefined && !body.complete) {
      const quietMs = nowMs - body.movedAtMs;
      if (this.#afterBody !== undefined && quietMs > quietBodyMs) this.#bodyPassed();
      else if (this.#afterBody === undefined && quietMs > idleMs) this.abandon(upstreamTimedOut);
      else if (!this.isBlocked) body.keepOpen();
    }
    return !this.over && (this.#bodyIsComing || this.isBlocked);
  }

  /** With a paused body the binding does not say that the client takes more: ask, or the two wait for each other. */
  #pokeUntilReady(stream: AnswerStream, delayMs = pokeFirstMs): void {
    if (this.#nextPoke !== undefined) return;
    this.#nextPoke = setTimeout(() => {
      if (!this.over && stream.blocked) stream.poke();
      this.#nextPoke = undefined;
      if (this.over || !stream.blocked || !this.#bodyIsComing) return;
      this.#pokeUntilReady(stream, Math.min(delayMs * 2, pokeLastMs));
    }, delayMs);
  }

  /** Lets the rest of the body pass by, as long as it keeps coming; `then` answers, in a macrotask of its own. */
  #letBodyPass(body: RequestBody, then: () => void): void {
    this.#afterBody = then;
    body.discard(() => inPollPhase(() => this.#bodyPassed()));
  }

  #bodyPassed(): void {
    const then = this.#afterBody;
    this.#afterBody = undefined;
    if (!this.over) then?.();
  }

  /** Whether the upstream's answer ends with its head. */
  get #isBodiless(): boolean {
    return endsWithHead(this.head.method, this.status);
  }

  get #bodyIsComing(): boolean {
    return this.body !== undefined && !this.body.complete;
  }

  // ---- an answer of our own

  /** Answers a refusal. `close` ends the connection: framing faults, and bodies that were not read. */
  refuse(denial: Denial, close: boolean): void {
    if (this.over) return;
    if (this.#headWritten) return this.cut(denial.problem.slug);
    const { body } = this;
    if (!close && body !== undefined && !body.complete && body.remaining <= awaitedBodyBytesMax) {
      this.#letBodyPass(body, () => this.#refuseNow(denial, false));
    } else {
      this.#refuseNow(denial, close);
    }
  }

  #refuseNow(denial: Denial, close: boolean): void {
    this.#call?.abort();
    const rendered = renderDenial(denial);
    const body = rendered.before + this.requestId + rendered.after;
    // A refusal by a limit gets its Retry-After with the limit's headers.
    const waitS = this.retryMs > 0 && this.limitIndex < 0 ? retryAfterS(this.retryMs) : denial.retryAfterS;
    const fields = waitS > 0 ? `${rendered.fields}\r\nRetry-After: ${waitS}` : rendered.fields;
    const { status, slug } = denial.problem;
    this.answer(status, slug, 'application/problem+json', body, close, fields + this.refusalFields(status, body));
  }

  /** Further fields of a refusal, each begun by CR LF; the verify plane has some. */
  protected refusalFields(_status: number, _body: string): string {
    return '';
  }

  /** The status that goes over the wire for `status`, which is what is recorded; one asker knows only a few. */
  protected statusSent(status: number): number {
    return status;
  }

  /** The request may pass. */
  admitted(): void {
    this.#owner.forward(this);
  }

  /** Answers `text` with the limit fields and `fields`, each begun by CR LF. '' is no content type. */
  answer(status: number, outcome: string, contentType: string, text: string, close: boolean, fields: string): void {
    if (this.over) return;
    const closing = close || this.#mustClose();
    this.status = status;
    const type = contentType === '' ? '' : `\r\nContent-Type: ${contentType}`;
    const limits = this.#owner.limitFields(this);
    const head = `${this.requestId}${type}\r\nCache-Control: no-store${fields}${limits}`;
    this.#wholeHead = head;
    this.#wholeText = text;
    this.#wholeCloses = closing;
    cork(this);
    if (this.head.method === 'HEAD' && text !== '' && closing) this.#close();
    this.#finish(outcome);
  }

  /** Writes what {@link answer} put together, inside the cork. All fields are one text: see the head of this file. */
  writeWhole(): void {
    const { res } = this;
    const text = this.#wholeText;
    const closing = this.#wholeCloses;
    const status = this.statusSent(this.status);
    if (status !== 200) res.writeStatus(statusLine(status));
    res.writeHeader('X-Request-Id', this.#wholeHead);
    // An empty text is the same answer to HEAD as to any other method.
    if (this.head.method !== 'HEAD' || text === '') {
      this.bytesOut = text === '' ? 0 : Buffer.byteLength(text);
      this.#endWhole(text, closing);
    } else if (closing) {
      res.writeHeader('Connection', 'close');
      res.tryEnd('', Buffer.byteLength(text));
    } else {
      res.writeHeader('Content-Length', String(Buffer.byteLength(text)));
      res.endWithoutBody();
    }
  }

  // ---- the upstream's answer

  forwarding(call: UpstreamCall): void {
    this.#call = call;
  }

  upstreamAnswer(head: ResponseHead, body: Buffer): void {
    if (this.over) return;
    if (this.#bodyIsComing || body.length > wholeBytesMax || endsWithHead(this.head.method, head.status)) {
      this.upstreamHead(head);
      if (body.length > 0) this.upstreamChunk(body);
      this.upstreamEnd();
      return;
    }
    this.#takeHead(head);
    this.#upstreamDone = true;
    this.#headWritten = true;
    this.bytesOut = body.length;
    this.res.cork(() => {
      this.#writeHeadFields(head);
      this.#endWhole(body, this.#mustClose());
    });
    this.#finish('ok');
  }

  upstreamHead(head: ResponseHead): void {
    if (this.over) return;
    this.#takeHead(head);
    this.#upstreamHead = head;
    this.#flushSoon();
  }

  #takeHead(head: ResponseHead): void {
    this.status = head.status;
    this.upstreamMs = performance.now() - this.upstreamStartedAtMs;
  }

  upstreamChunk(chunk: Buffer): boolean {
    if (this.over) return true;
    if (!this.#headWritten) {
      this.#early.push(Buffer.from(chunk));
      return true;
    }
    return this.#writeChunk(chunk);
  }

  /** Whether the client takes no more of the answer for now. */
  get isBlocked(): boolean {
    return this.#stream?.blocked === true;
  }

  clientBlocked(): void {
    this.#owner.watched.add(this);
    if (!this.#bodyIsComing || this.#stream === undefined) return;
    this.body?.staysPaused();
    this.#pokeUntilReady(this.#stream);
  }

  clientReady(): void {
    if (this.over) return;
    if (this.#upstreamDone) this.#endStream();
    else this.#call?.resume();
  }

  answerSent(): void {
    this.#finish('ok');
  }

  upstreamEnd(): void {
    if (this.over) return;
    this.#upstreamDone = true;
    if (this.#headWritten) this.#endStream();
    else this.#flushSoon();
  }

  upstreamFailed(denial: Denial): void {
    if (this.over) return;
    if (this.upstreamMs === 0) this.upstreamMs = performance.now() - this.upstreamStartedAtMs;
    this.refuse(denial, false);
  }

  /** One flush when this read of the upstream's socket is done: a short answer then leaves in one write. */
  #flushSoon(): void {
    if (this.#flushQueued) return;
    this.#flushQueued = true;
    if (flushQueue.push(this) === 1) queueMicrotask(flushAll);
  }

  flush(): void {
    this.#flushQueued = false;
    if (this.over || this.#headWritten) return;
    const { body } = this;
    // Such an answer ends with its head, so it waits for the rest of the body.
    if (this.#isBodiless && body !== undefined && !body.complete && this.#afterBody === undefined) {
      this.#letBodyPass(body, () => this.#startAnswer());
    } else {
      this.#startAnswer();
    }
  }

  #startAnswer(): void {
    this.res.cork(() => this.#writeUpstreamHead());
    // Chunks have corks of their own: see answer-stream.ts.
    for (const chunk of this.#early) {
      if (this.over) break;
      this.#writeChunk(chunk);
    }
    this.#early = [];
    if (this.#upstreamDone && !this.over) this.#endStream();
  }

  #writeUpstreamHead(): void {
    const { res } = this;
    this.#headWritten = true;
    const head = this.#upstreamHead as ResponseHead;
    this.#upstreamHead = undefined;
    this.#length = head.length;
    this.#writeHeadFields(head);
    const closing = this.#mustClose();
    if (this.#isBodiless) {
      this.#endBodiless(closing);
      return;
    }
    if (this.#upstreamDone && !this.#bodyIsComing) {
      const early = this.#early;
      const whole = early.length === 1 ? (early[0] as Buffer) : Buffer.concat(early);
      if (whole.length <= wholeBytesMax) {
        this.bytesOut = whole.length;
        this.#endWhole(whole, closing);
        this.#finish('ok');
        return;
      }
      this.#early = [whole];
      this.#length = whole.length;
    }
    if (closing) res.writeHeader('Connection', 'close');
    // An answer of announced length would end by itself, before the body has: see the head of this file.
    if (this.#bodyIsComing) this.#length = noLength;
    this.#stream = new AnswerStream(res, this.#length, this);
    if (this.#stream.isChunked) return;
    const early = this.#early;
    this.#early = [];
    for (const chunk of early) {
      if (this.over) return;
      this.#writeChunk(chunk);
    }
  }

  #writeHeadFields(head: ResponseHead): void {
    const { res } = this;
    if (this.status !== 200) res.writeStatus(statusLine(this.status));
    writeFields(head, res, 'X-Request-Id', this.requestId + this.#owner.limitFields(this));
  }

  #endBodiless(closing: boolean): void {
    const { res } = this;
    if (closing) res.writeHeader('Connection', 'close');
    if (this.#length !== noLength && this.status !== 204) res.writeHeader('Content-Length', String(this.#length));
    this.#endPaused(() => res.endWithoutBody());
  }

  /** Ends the answer. What has not come of the request's body stays unread, so that the idle timeout ends it. */
  #endPaused(end: () => void): void {
    if (this.#bodyIsComing) this.res.pause();
    end();
    this.#finish('ok');
  }

  /** Answers false when the client takes no more for now. */
  #writeChunk(chunk: Buffer): boolean {
    this.bytesOut += chunk.length;
    return this.#stream?.write(chunk) ?? true;
  }

  /** The upstream's answer is complete, or has become so and the client has taken what came before. */
  #endStream(): void {
    const { body } = this;
    if (this.isBlocked) return;
    // An announced length ends by itself: less than that is a cut answer.
    if (this.#stream?.isChunked === false) this.cut('upstream-invalid-response');
    else if (body !== undefined && !body.complete) this.#letBodyPass(body, () => this.#endChunks());
    else this.#endChunks();
  }

  #endChunks(): void {
    this.res.cork(() => this.#endPaused(() => this.res.end()));
  }

  #mustClose(): boolean {
    return this.head.close || this.#owner.draining || this.#bodyIsComing;
  }

  #finish(outcome: string): void {
    if (this.over) return;
    this.over = true;
    this.cancelled = true;
    this.outcome = outcome;
    this.body?.release();
    clearTimeout(this.#nextPoke);
    this.#early = [];
    this.#owner.finished(this);
  }
}

/** RFC 9112 section 6.3, rule 1. */
function endsWithHead(method: string, status: number): boolean {
  return method === 'HEAD' || status === 204 || status === 304;
}

// One function for the corks of all answers, instead of a closure each: a cork calls it at once.
let corked: Exchange | undefined;
const writeCorked = (): void => corked?.writeWhole();

function cork(exchange: Exchange): void {
  corked = exchange;
  exchange.res.cork(writeCorked);
}

let flushQueue: Exchange[] = [];

function flushAll(): void {
  const exchanges = flushQueue;
  flushQueue = [];
  for (const exchange of exchanges) exchange.flush();
}
