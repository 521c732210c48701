/**
 * One request and its answer: what becomes of it, whatever its end. It, its relay and its body are the only code that
 * touches its response object.
 *
 * Facts of the binding (measured on 20.48) that shape this file:
 * - every answer leaves from a macrotask after the handler: the parser then closes on a pipelined second request;
 * - a response must not be touched after it was ended or aborted: `over` guards every entry.
 */
import type { AdmissionTicket, Verdict } from '../admission/ticket.js';
import { retryAfterS } from '../admission/rate-headers.js';
import { inPollPhase } from '../core/poll-phase.js';
import type { Denial } from '../core/problems.js';
import { renderDenial } from '../http/problem.js';
import type { RequestHead } from '../http/request-head.js';
import { upstreamTimedOut } from '../upstream/failure.js';
import type { HttpResponse } from './binding.js';
import { Relay, type RelayedRequest } from './relay.js';
import { RequestState } from './request-state.js';
import { sendWhole } from './whole-answer.js';

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
/** A client that has sent nothing of its body for this long waits for its answer, ms. */
const quietBodyMs = 1000;

export class Exchange extends RequestState implements AdmissionTicket, RelayedRequest {
  readonly res: HttpResponse;
  /** Who asks wants the decision only: nothing is forwarded. */
  readonly isQuestion: boolean = false;
  readonly #owner: ExchangeOwner;
  /** A refusal is on its way: a verdict that comes before it changes nothing. */
  #isAbandoned = false;
  #relay: Relay | undefined;
  /** What is left to do when the rest of the request's body has passed by. */
  #afterBody: (() => void) | undefined;

  constructor(owner: ExchangeOwner, res: HttpResponse, head: RequestHead, startedAtMs: number) {
    super(head, startedAtMs);
    this.#owner = owner;
    this.res = res;
  }

  admissionSettled(verdict: Verdict): void {
    if (!this.over && !this.#isAbandoned) this.#owner.settled(this, verdict);
  }

  /** The request may pass. */
  admitted(): void {
    this.#owner.forward(this);
  }

  /** The request is being sent to the upstream: what takes its answer. */
  startRelay(): Relay {
    this.#relay = new Relay(this);
    return this.#relay;
  }

  // ---- its end

  /** The binding's abort callback: the client left, or the binding refused the framing itself. */
  aborted(): void {
    if (this.over) return;
    this.#relay?.abort();
    if (this.status === 0) this.status = clientClosedStatus;
    this.finish('client-closed');
  }

  /** Cuts the connection: the answer is recognisably incomplete. */
  cut(outcome: string): void {
    if (this.over) return;
    this.#relay?.abort();
    this.#close();
    this.finish(outcome);
  }

  /** The request cannot be carried on (its body is too large): whatever is under way ends, and the connection too. */
  abandon(denial: Denial): void {
    this.#isAbandoned = true;
    this.#relay?.abort();
    inPollPhase(() => this.refuse(denial, true));
  }

  /** The answer is complete, or there will be none. */
  finish(outcome: string): void {
    if (this.over) return;
    this.over = true;
    this.cancelled = true;
    this.outcome = outcome;
    this.body?.release();
    this.#relay?.release();
    this.#owner.finished(this);
  }

  /** Closes the connection, which calls the binding's abort callback. */
  #close(): void {
    this.over = true;
    this.res.close();
    this.over = false;
  }

  get closesConnection(): boolean {
    return this.head.close || this.#owner.draining || this.bodyIsComing;
  }

  // ---- an answer of our own

  /** Answers a refusal. `close` ends the connection: framing faults, and bodies that were not read. */
  refuse(denial: Denial, close: boolean): void {
    if (this.over) return;
    if (this.#relay?.headWritten === true) return this.cut(denial.problem.slug);
    const { body } = this;
    if (!close && body !== undefined && !body.complete && body.remaining <= awaitedBodyBytesMax) {
      this.afterBody(() => this.#refuseNow(denial, false));
    } else {
      this.#refuseNow(denial, close);
    }
  }

  #refuseNow(denial: Denial, close: boolean): void {
    this.#relay?.abort();
    const rendered = renderDenial(denial);
    const body = rendered.before + this.requestId + rendered.after;
    // A request id is ASCII.
    const bytes = rendered.bytes + this.requestId.length;
    // A refusal by a limit gets its Retry-After with the limit's headers.
    const waitS = this.retryMs > 0 && this.limitIndex < 0 ? retryAfterS(this.retryMs) : denial.retryAfterS;
    const fields = waitS > 0 ? `${rendered.fields}\r\nRetry-After: ${waitS}` : rendered.fields;
    const { status, slug } = denial.problem;
    const allFields = fields + this.refusalFields(status, body);
    this.answer(status, slug, 'application/problem+json', body, bytes, close, allFields);
  }

  /** Further fields of a refusal, each begun by CR LF; the verify plane has some. */
  protected refusalFields(_status: number, _body: string): string {
    return '';
  }

  /** The status that goes over the wire for `status`, which is what is recorded; one asker knows only a few. */
  protected statusSent(status: number): number {
    return status;
  }

  /** Answers `text` of `bytes` with the limit fields and `fields`, each begun by CR LF. '' is no content type. */
  answer(
    status: number,
    outcome: string,
    contentType: string,
    text: string,
    bytes: number,
    close: boolean,
    fields: string,
  ): void {
    if (this.over) return;
    const { res, head } = this;
    const closing = close || this.closesConnection;
    const toHead = head.method === 'HEAD';
    const type = contentType === '' ? '' : `\r\nContent-Type: ${contentType}`;
    this.status = status;
    this.bytesOut = sendWhole({
      res,
      status: this.statusSent(status),
      fields: `${this.requestId}${type}\r\nCache-Control: no-store${fields}${this.#owner.limitFields(this)}`,
      text,
      bytes,
      toHead,
      closing,
      connection: head.connection,
    });
    if (toHead && text !== '' && closing) this.#close();
    this.finish(outcome);
  }

  ownFields(): string {
    return this.requestId + this.#owner.limitFields(this);
  }

  // ---- the request's body, and waiting

  get awaitsBody(): boolean {
    return this.#afterBody !== undefined;
  }

  /** Lets the rest of the body pass by, as long as it keeps coming; `then` answers, in a macrotask of its own. */
  afterBody(then: () => void): void {
    this.#afterBody = then;
    this.body?.discard(() => inPollPhase(() => this.#bodyPassed()));
  }

  #bodyPassed(): void {
    const then = this.#afterBody;
    this.#afterBody = undefined;
    if (!this.over) then?.();
  }

  /** Whether the client takes no more of the answer for now. */
  get isBlocked(): boolean {
    return this.#relay?.isBlocked === true;
  }

  watch(): void {
    this.#owner.watched.add(this);
  }

  /**
   * Looks after a request while one side waits for the other; called every second. `idleMs`: longest standstill.
   * Answers whether it has to be called again.
   */
  check(nowMs: number, idleMs: number): boolean {
    if (this.over) return false;
    if (this.#relay?.pokeClient(nowMs, idleMs) === false) {
      this.cut('client-closed');
      return false;
    }
    if (this.over) return false;
    const { body } = this;
    if (body !== undefined && !body.complete) {
      const quietMs = nowMs - body.movedAtMs;
      if (this.awaitsBody && quietMs > quietBodyMs) this.#bodyPassed();
      else if (!this.awaitsBody && quietMs > idleMs) this.abandon(upstreamTimedOut);
      else if (!this.isBlocked) body.keepOpen();
    }
    return !this.over && (this.bodyIsComing || this.isBlocked);
  }
}
