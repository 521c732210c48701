/**
 * One request and its answer: what is known of it, and the only code that touches its response object.
 *
 * Facts of the binding (measured on 20.48) that shape this file:
 * - every answer leaves from a macrotask after the handler: the parser then closes on a pipelined second request;
 * - `end(body, true)` writes `Connection: close` at the point it has reached, so it may end only an answer of which
 *   nothing was written yet: streamed answers say close in their head;
 * - `endWithoutBody(n)` leaves the answer pending: HEAD writes Content-Length itself and calls it without arguments;
 * - a response must not be touched after it was ended or aborted: `over` guards every entry;
 * - `onWritable` is set once a response;
 * - an answer given before the body's last byte leaves the connection without idle timeout: such an answer closes,
 *   or waits for the rest of the body to pass by.
 */
import type { AdmissionTicket, Verdict } from '../admission/admit.js';
import { retryAfterS } from '../admission/rate-headers.js';
import type { Denial } from '../core/problems.js';
import type { Credential } from '../credential/extract.js';
import { emptyBodySha256 } from '../credential/hmac.js';
import { dropResponseHeader } from '../http/drop-list.js';
import { parseConnectionOptions } from '../http/field.js';
import { renderDenial, statusLine } from '../http/problem.js';
import type { RequestHead } from '../http/request-head.js';
import type { Route } from '../policy/routes.js';
import type { PreparedTenant, PreparedToken } from '../token/cache.js';
import type { UpstreamCall, UpstreamSink } from '../upstream/call.js';
import type { AuthorizationSubject } from './authorize.js';
import type { HttpResponse } from './binding.js';
import type { RequestBody } from './request-body.js';

/** What an exchange needs of the pipeline; the pipeline alone knows the order of the stages. */
export interface ExchangeOwner {
  settled(exchange: Exchange, verdict: Verdict): void;
  finished(exchange: Exchange): void;
  /** Writes the limit headers of an admitted or refused request. */
  limitHeaders(exchange: Exchange, res: HttpResponse): void;
  readonly draining: boolean;
}

/** Status recorded for a client that left before its answer (nginx' convention). */
const clientClosedStatus = 499;

const fieldUses = { copy: 0, drop: 1, contentLength: 2, connection: 3 } as const;
type FieldUse = (typeof fieldUses)[keyof typeof fieldUses];

/** Spellings of field names seen from the upstream; bounded, since an upstream may echo its callers. */
const useBySpelling = new Map<string, FieldUse>();
const spellingsMax = 2000;

/** What becomes of an upstream's field, by its name as spelt. */
function fieldUse(name: string): FieldUse {
  const known = useBySpelling.get(name);
  if (known !== undefined) return known;
  const lower = name.toLowerCase();
  let use: FieldUse = dropResponseHeader(lower) ? fieldUses.drop : fieldUses.copy;
  if (lower === 'content-length') use = fieldUses.contentLength;
  else if (lower === 'connection') use = fieldUses.connection;
  if (useBySpelling.size < spellingsMax) useBySpelling.set(name, use);
  return use;
}

export class Exchange implements AdmissionTicket, AuthorizationSubject, UpstreamSink {
  readonly #owner: ExchangeOwner;
  readonly res: HttpResponse;
  readonly head: RequestHead;
  readonly startedAtMs: number;
  body: RequestBody | undefined;

  // What the stages found out, in their order.
  requestId = '';
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
  #upstreamHeaders: readonly Buffer[] = [];
  #headWritten = false;
  #upstreamDone = false;
  #early: Buffer[] = [];
  #flushQueued = false;
  /** Announced length of the upstream's answer, -1 when it announced none. */
  #length = -1;
  #unsent: Buffer | undefined;
  #unsentAt = 0;
  #endWaitsForBody = false;

  constructor(owner: ExchangeOwner, res: HttpResponse, head: RequestHead, startedAtMs: number) {
    this.#owner = owner;
    this.res = res;
    this.head = head;
    this.startedAtMs = startedAtMs;
  }

  get method(): string {
    return this.head.method;
  }

  admissionSettled(verdict: Verdict): void {
    if (!this.over) this.#owner.settled(this, verdict);
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
    this.over = true;
    this.res.close();
    this.over = false;
    this.#finish(outcome);
  }

  // ---- an answer of our own

  /** Answers a refusal. `close` ends the connection: framing faults, and bodies that were not read. */
  refuse(denial: Denial, close: boolean): void {
    if (this.over) return;
    const rendered = renderDenial(denial);
    const body = rendered.before + this.requestId + rendered.after;
    // A refusal by a limit gets its Retry-After with the limit's headers.
    const waitS = this.retryMs > 0 && this.limitIndex < 0 ? retryAfterS(this.retryMs) : denial.retryAfterS;
    this.answer(denial.problem.status, denial.problem.slug, 'application/problem+json', body, close, () => {
      const { res } = this;
      if (rendered.challenge !== '') res.writeHeader('WWW-Authenticate', rendered.challenge);
      if (denial.allow !== '') res.writeHeader('Allow', denial.allow);
      if (waitS > 0) res.writeHeader('Retry-After', String(waitS));
    });
  }

  /** Answers `text` with the limit headers; `extra` writes further headers inside the cork. */
  answer(
    status: number,
    outcome: string,
    contentType: string,
    text: string,
    close: boolean,
    extra: (() => void) | undefined,
  ): void {
    if (this.over) return;
    const { res } = this;
    const closing = close || this.#mustClose();
    this.status = status;
    res.cork(() => {
      res.writeStatus(statusLine(status));
      res.writeHeader('Content-Type', contentType);
      res.writeHeader('Cache-Control', 'no-store');
      res.writeHeader('X-Request-Id', this.requestId);
      extra?.();
      this.#owner.limitHeaders(this, res);
      if (this.head.method !== 'HEAD') {
        this.bytesOut = text.length;
        res.end(text, closing);
      } else if (closing) {
        res.end('', true);
      } else {
        res.writeHeader('Content-Length', String(Buffer.byteLength(text)));
        res.endWithoutBody();
      }
    });
    this.#finish(outcome);
  }

  // ---- the upstream's answer

  forwarding(call: UpstreamCall): void {
    this.#call = call;
  }

  upstreamHead(status: number, rawHeaders: readonly Buffer[]): void {
    if (this.over) return;
    this.status = status;
    this.#upstreamHeaders = rawHeaders;
    this.upstreamMs = performance.now() - this.upstreamStartedAtMs;
    this.#flushSoon();
  }

  upstreamChunk(chunk: Buffer): boolean {
    if (this.over) return true;
    if (!this.#headWritten) {
      this.#early.push(chunk);
      return true;
    }
    let open = true;
    this.res.cork(() => {
      open = this.#writeChunk(chunk);
    });
    return open;
  }

  upstreamEnd(): void {
    if (this.over) return;
    this.#upstreamDone = true;
    if (this.#headWritten) this.#endStream();
    else this.#flushSoon();
  }

  upstreamFailed(denial: Denial): void {
    if (this.over) return;
    if (this.#headWritten) this.cut(denial.problem.slug);
    else this.refuse(denial, this.body !== undefined && !this.body.complete);
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
    this.res.cork(() => this.#writeUpstreamHead());
  }

  #writeUpstreamHead(): void {
    const { res, head } = this;
    this.#headWritten = true;
    const early = this.#early;
    this.#early = [];
    res.writeStatus(statusLine(this.status));
    this.#copyHeaders();
    res.writeHeader('X-Request-Id', this.requestId);
    this.#owner.limitHeaders(this, res);
    const closing = this.#mustClose();
    if (head.method === 'HEAD' || this.status === 204 || this.status === 304) {
      this.#endBodyless(closing);
      return;
    }
    if (this.#upstreamDone) {
      const whole = early.length === 1 ? (early[0] as Buffer) : Buffer.concat(early);
      this.bytesOut = whole.length;
      res.end(whole, closing);
      this.#finish('ok');
      return;
    }
    if (closing) {
      res.writeHeader('Connection', 'close');
      // A length and a forced close cannot be had together from the binding: stream it chunked.
      this.#length = -1;
    }
    res.onWritable((offset) => this.#writable(offset));
    for (const chunk of early) {
      if (this.over) return;
      this.#writeChunk(chunk);
    }
  }

  #endBodyless(closing: boolean): void {
    const { res } = this;
    if (closing) {
      res.end('', true);
    } else {
      if (this.#length >= 0 && this.status !== 204) res.writeHeader('Content-Length', String(this.#length));
      res.endWithoutBody();
    }
    this.#finish('ok');
  }

  /** End-to-end fields go to the client byte for byte as the upstream sent them. */
  #copyHeaders(): void {
    const { res } = this;
    const headers = this.#upstreamHeaders;
    const options = this.#readFraming(headers);
    for (let at = 0; at + 1 < headers.length; at += 2) {
      const name = (headers[at] as Buffer).toString('latin1');
      if (fieldUse(name) !== fieldUses.copy) continue;
      if (options.length !== 0 && options.includes(name.toLowerCase())) continue;
      res.writeHeader(headers[at] as Buffer, headers[at + 1] as Buffer);
    }
    this.#upstreamHeaders = [];
  }

  /** Takes the announced length, and answers the fields that were meant for this hop only. */
  #readFraming(headers: readonly Buffer[]): readonly string[] {
    let connection = '';
    for (let at = 0; at + 1 < headers.length; at += 2) {
      const use = fieldUse((headers[at] as Buffer).toString('latin1'));
      if (use === fieldUses.contentLength) this.#length = Number((headers[at + 1] as Buffer).toString('latin1'));
      else if (use === fieldUses.connection) connection += `,${(headers[at + 1] as Buffer).toString('latin1')}`;
    }
    return connection === '' || connection === ',keep-alive' || connection === ',close'
      ? []
      : parseConnectionOptions(connection);
  }

  /** Answers false when the client takes no more for now. */
  #writeChunk(chunk: Buffer): boolean {
    const { res } = this;
    this.bytesOut += chunk.length;
    if (this.#length < 0) return res.write(chunk);
    if (this.#unsent !== undefined) {
      // The upstream was asked to pause, but what it had read already still comes.
      this.#unsent = Buffer.concat([this.#unsent, chunk]);
      return false;
    }
    const offset = res.getWriteOffset();
    const [sent, done] = res.tryEnd(chunk, this.#length);
    if (done) {
      this.#finish('ok');
      return true;
    }
    if (!sent) {
      this.#unsent = chunk;
      this.#unsentAt = offset;
    }
    return sent;
  }

  /** The client can take more: first what it still lacks, then the upstream goes on. */
  #writable(offset: number): boolean {
    if (this.over) return true;
    if (this.#unsent !== undefined) {
      const rest = this.#unsent.subarray(offset - this.#unsentAt);
      const [sent, done] = this.res.tryEnd(rest, this.#length);
      if (done) {
        this.#finish('ok');
        return true;
      }
      if (!sent) return false;
      this.#unsent = undefined;
    }
    this.#call?.resume();
    return true;
  }

  #endStream(): void {
    if (this.#length >= 0) {
      // All announced bytes were handed over, or the binding still drains them; less is a cut answer.
      if (this.#unsent === undefined) this.cut('upstream-invalid-response');
      return;
    }
    if (this.body !== undefined && !this.body.complete) {
      this.#endWaitsForBody = true;
      this.body.discard(() => {
        if (this.over || !this.#endWaitsForBody) return;
        this.res.cork(() => this.res.end());
        this.#finish('ok');
      });
      return;
    }
    this.res.cork(() => this.res.end());
    this.#finish('ok');
  }

  #mustClose(): boolean {
    return this.head.close || this.#owner.draining || (this.body !== undefined && !this.body.complete);
  }

  #finish(outcome: string): void {
    if (this.over) return;
    this.over = true;
    this.cancelled = true;
    this.outcome = outcome;
    this.body?.release();
    this.#early = [];
    this.#unsent = undefined;
    this.#owner.finished(this);
  }
}

const flushQueue: Exchange[] = [];

function flushAll(): void {
  for (const exchange of flushQueue) exchange.flush();
  flushQueue.length = 0;
}
