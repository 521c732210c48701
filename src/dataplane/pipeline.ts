/**
 * The order of the stages, and nothing else: read this file to know what happens to a request.
 *
 *   1 strict request -> 2 route -> 3 credential -> [body digest] -> 4 decide -> 5 admission -> 6 forward -> 7 record
 *
 * The listener reads the head (stage 1, http/request-head.ts) and hands over its fault, if it has one.
 * A decision is made under the cached record of the token and tenant and then put to Redis in one question: are these
 * versions still current, and if so charge this cost. A record that moved comes back with the reply and the decision
 * is made again, so a revocation, a rotation or a new limit holds from the moment it was written, and a refused
 * request is charged nothing. `settled` is the only place where a request goes back a stage.
 */
import { type Verdict, verdictCodes } from '../admission/ticket.js';
import { type LimitHeaders, rateFields } from '../admission/rate-headers.js';
import type { Denial } from '../core/problems.js';
import { type Credential, extractCredential, invalidSignature, invalidToken, isDenial } from '../credential/extract.js';
import { claimOf, claimUntilMs } from '../credential/hmac.js';
import { BodyCollector } from '../credential/signed-body.js';
import { outsideWindow, type Verification, verifyCredential } from '../credential/verify.js';
import type { OriginalRequest } from '../http/original-request.js';
import { newRequestId } from '../http/request-id.js';
import { normalisePath, queryAllowed } from '../policy/path.js';
import type { Policy } from '../policy/routes.js';
import { keys } from '../redis/keys.js';
import { prepareTenant, prepareToken } from '../token/cache.js';
import { TokenRedaction } from '../token/redaction.js';
import { blockedDenial, failedAttempt } from './attempts.js';
import { authorize } from './authorize.js';
import type { Exchange, ExchangeOwner } from './exchange.js';
import { type ForeignTokenOwner, ForeignTokens } from './foreign-token.js';
import { upstreamRequest } from './forward.js';
import { LaterAnswers } from './later-answers.js';
import type { PipelineParts } from './pipeline-parts.js';
import { recordExchange } from './record.js';
import {
  badPath,
  badQuery,
  notNormalPath,
  overloaded,
  quotaUsedUp,
  rateLimited,
  replayed,
  shed,
  signedBodyTooLarge,
  storeAway,
} from './refusals.js';
import { bodyTooLarge } from './request-body.js';
import { describeSelf, routeOf } from './self-description.js';
import type { PipelineSettings } from './settings.js';
import type { VerifyExchange } from './verify-exchange.js';
import { denialWithoutStore, rememberAdmitted } from './without-store.js';

/** A record that moves this often while one request is decided is written in a loop: give up rather than spin. */
const roundsMax = 4;

export class Pipeline implements ExchangeOwner, ForeignTokenOwner {
  /** Replaced as a whole when the policy is reloaded; a request keeps the route it was matched with. */
  policy: Policy;
  draining = false;
  inFlight = 0;
  readonly watched = new Set<Exchange>();
  readonly #parts: PipelineParts;
  readonly #settings: PipelineSettings;
  readonly #redaction: TokenRedaction;
  readonly #found: Verification = { authentic: false, notBeforeMs: 0, notAfterMs: 0 };
  readonly #later = new LaterAnswers();
  readonly #foreign: ForeignTokens;

  constructor(parts: PipelineParts, policy: Policy) {
    this.#parts = parts;
    this.#settings = parts.settings;
    this.#redaction = new TokenRedaction(parts.settings.tokenPrefix);
    this.#foreign = new ForeignTokens(this, parts);
    this.policy = policy;
  }

  /** Most bytes a body may have, 0 for no limit; one of unknown length is counted while it comes. */
  get bodyBytesMax(): number {
    return this.#settings.bodyBytesMax;
  }

  /** Stage 1: the head was read. Inside the binding's handler, so nothing here may answer at once (see exchange.ts). */
  begin(exchange: Exchange, headFault: Denial | undefined, rawPath: string, query: string | undefined): void {
    this.inFlight++;
    const { head } = exchange;
    exchange.requestId = this.#requestId(head.requestId);
    exchange.method = head.method;
    exchange.takeClient(this.#parts.trustedProxies, this.#settings.scheme);
    exchange.targetAsSent = query === undefined ? rawPath : `${rawPath}?${query}`;
    if (headFault !== undefined) return this.refuseLater(exchange, headFault);
    if (this.#parts.overload.sheds(this.inFlight)) return this.refuseLater(exchange, shed);
    this.#examine(exchange, rawPath, query);
  }

  /**
   * As {@link begin}, for a request that a proxy holds and asks about: what is known of it is the proxy's word. `fault`
   * is what is wrong with the word or with who gives it; nothing of it is believed then.
   */
  beginVerify(exchange: VerifyExchange, fault: Denial | undefined, original: OriginalRequest): void {
    this.inFlight++;
    exchange.requestId = this.#requestId(exchange.head.requestId);
    exchange.method = exchange.head.method;
    const denial = fault ?? exchange.take(original, this.#parts.trustedProxies);
    if (denial !== undefined) return this.refuseLater(exchange, denial);
    if (this.#parts.overload.sheds(this.inFlight)) return this.refuseLater(exchange, shed);
    const mark = original.target.indexOf('?');
    if (mark < 0) this.#examine(exchange, original.target, undefined);
    else this.#examine(exchange, original.target.slice(0, mark), original.target.slice(mark + 1));
  }

  /** The client's own, which is echoed and logged, unless there is none or it may be a secret. */
  #requestId(sent: string): string {
    return sent === '' || this.#redaction.suspects(sent) ? newRequestId() : sent;
  }

  /** Stage 2 and 3, path, route and credential: the same for a request that is forwarded and one that is asked about. */
  #examine(exchange: Exchange, rawPath: string, query: string | undefined): void {
    const { head } = exchange;
    const asked = exchange.isQuestion;
    const path = normalisePath(rawPath);
    if (path === '') return this.refuseLater(exchange, badPath);
    // The proxy sends what it was sent: only a path that is its own normal form is what was decided about.
    if (asked && path !== rawPath) return this.refuseLater(exchange, notNormalPath);
    if (query !== undefined && !queryAllowed(query)) return this.refuseLater(exchange, badQuery);
    const { bodyBytesMax } = this.#settings;
    if (bodyBytesMax > 0 && head.contentLength > bodyBytesMax) return this.refuseLater(exchange, bodyTooLarge);
    exchange.path = path;
    exchange.target = query === undefined ? path : `${path}?${query}`;

    exchange.route = asked
      ? this.policy.match(exchange.method, path)
      : routeOf(this.policy, this.#settings.wellKnown, exchange.method, path);
    if (exchange.route?.public === true) return asked ? this.#later.admit(exchange) : this.forward(exchange);

    // From the head alone, before the signature is looked at: such a body is never read.
    if (head.isSigned && head.contentLength > this.#settings.hmacBodyBytesMax) {
      return this.refuseLater(exchange, signedBodyTooLarge);
    }
    const credential = extractCredential(head, this.#settings);
    if (isDenial(credential)) return this.#noCredential(exchange, credential);
    exchange.credential = credential;
    // The body is not visible: what its signed Content-Digest says of it is all there is.
    if (asked && credential.kind === 'message-signature') exchange.bodySha256Hex = credential.bodySha256Hex;
    if (credential.kind === 'foreign') return this.#foreign.resolve(exchange, credential.digest);
    if (credential.kind !== 'bearer') return this.#readSignedBody(exchange);
    this.decide(exchange);
  }

  #noCredential(exchange: Exchange, denial: Denial): void {
    // A request without any credential is no guess; a malformed one is.
    if (denial.problem.slug === 'missing-credentials') return this.refuseLater(exchange, denial);
    this.refuseLater(
      exchange,
      denial.problem.status === 401 ? failedAttempt(this.#parts.failures, exchange, denial) : denial,
    );
  }

  /** A signature covers the body: it is read whole, within its bound, before anything is decided. */
  #readSignedBody(exchange: Exchange): void {
    const { body } = exchange;
    if (body === undefined) return this.decide(exchange);
    const collector = new BodyCollector(this.#settings.hmacBodyBytesMax);
    body.collect(
      collector,
      () => {
        exchange.bodySha256Hex = collector.digestHex();
        this.decide(exchange);
      },
      () => this.refuseLater(exchange, signedBodyTooLarge),
    );
  }

  /** Stage 4: what the cached records say. The verdict of Redis on their versions comes to {@link settled}. */
  decide(exchange: Exchange, tokenIsFresh = false): void {
    const { cache, admission } = this.#parts;
    const credential = exchange.credential as Exclude<Credential, { kind: 'foreign' }>;
    const token = cache.token(credential.id);
    exchange.undecide();
    if (token === undefined) {
      const blocked = blockedDenial(this.#parts.failures, exchange);
      if (blocked !== undefined) return this.refuseLater(exchange, blocked);
      exchange.tokenKey = keys.token(credential.id);
      return admission.submit(exchange);
    }
    exchange.tokenKey = token.tokenKey;
    exchange.tokenVersion = token.version;
    const denial = verifyCredential(token, credential, this.#parts.secrets, exchange, this.#found);
    exchange.token = this.#found.authentic ? token : undefined;
    if (denial !== undefined) {
      // Read from Redis in this very round: nothing to confirm, and a wrong secret costs what an unknown id costs.
      if (tokenIsFresh) return this.#refuse(exchange, denial);
      exchange.pending = denial;
      return admission.submit(exchange);
    }
    exchange.notBeforeMs = this.#found.notBeforeMs;
    exchange.notAfterMs = this.#found.notAfterMs;
    const tenant = cache.tenant(token.record.tenant);
    exchange.tenant = tenant;
    exchange.tenantKey = token.tenantKey;
    if (tenant === undefined) return admission.submit(exchange);
    exchange.tenantVersion = tenant.version;
    exchange.pending = authorize(
      token,
      tenant,
      exchange,
      this.policy,
      this.#settings.tenantHost,
      this.#parts.addresses,
    );
    if (exchange.pending === undefined) {
      exchange.cost = exchange.route?.cost ?? 1;
      if (credential.kind !== 'bearer') {
        exchange.claim = claimOf(credential.signature);
        exchange.claimUntilMs = claimUntilMs(credential.timestampS);
        exchange.claimKey = keys.replay(token.id, exchange.claimUntilMs);
      } else {
        exchange.leasable = token.leasable && exchange.cost > 0;
      }
    }
    admission.submit(exchange);
  }

  /** Stage 5: Redis has spoken. */
  settled(exchange: Exchange, verdict: Verdict): void {
    exchange.limitIndex = verdict.limitIndex;
    exchange.remaining = verdict.remaining;
    exchange.resetMs = verdict.resetMs;
    exchange.retryMs = 0;
    switch (verdict.code) {
      case verdictCodes.admitted:
        if (this.policy.servesKnown || this.#settings.onStoreOutage === 'serve-known') {
          rememberAdmitted(exchange, verdict, this.#parts.outage);
        }
        return exchange.admitted();
      case verdictCodes.confirmed:
        return this.#confirmed(exchange);
      case verdictCodes.moved:
        return this.#decideAgain(exchange, verdict);
      case verdictCodes.unknown:
        return this.#unknown(exchange);
      case verdictCodes.tooLate:
      case verdictCodes.tooEarly:
        return this.#outsideWindow(exchange, verdict.nowMs);
      case verdictCodes.replayed:
        return this.#refuse(exchange, replayed);
      case verdictCodes.limited:
        exchange.retryMs = verdict.retryMs;
        return this.#refuse(exchange, rateLimited);
      case verdictCodes.quotaExceeded:
        exchange.retryMs = verdict.retryMs;
        return this.#refuse(exchange, quotaUsedUp);
      case verdictCodes.overloaded:
        return this.#refuse(exchange, overloaded);
      case verdictCodes.storeUnavailable:
        return this.#withoutStore(exchange);
      case verdictCodes.storeEmpty:
      case verdictCodes.unreadable:
        return this.#refuse(exchange, storeAway);
    }
  }

  #withoutStore(exchange: Exchange): void {
    const mode = exchange.route?.onStoreOutage ?? this.#settings.onStoreOutage;
    const denial = denialWithoutStore(exchange, mode, this.#parts.outage, this.#parts.metrics);
    if (denial === undefined) exchange.admitted();
    else this.#refuse(exchange, denial);
  }

  /** The records are current: a refusal stands, and a caller that asked about itself is told. */
  #confirmed(exchange: Exchange): void {
    const { pending, token, tenant } = exchange;
    if (pending !== undefined) return this.#refuse(exchange, pending);
    if (token === undefined || tenant === undefined) return this.#refuse(exchange, storeAway);
    const text = describeSelf(token, tenant, exchange);
    exchange.answer(200, 'ok', 'application/json', text, Buffer.byteLength(text), false, '');
  }

  #decideAgain(exchange: Exchange, verdict: Verdict): void {
    const { cache, logger } = this.#parts;
    if (++exchange.rounds > roundsMax) return this.#refuse(exchange, storeAway);
    try {
      if (verdict.tokenRecord !== null) cache.putToken(prepareToken(verdict.tokenRecord));
      if (verdict.tenantRecord !== null) cache.putTenant(prepareTenant(verdict.tenantRecord));
    } catch (error) {
      logger.error({ err: error, tokenKey: exchange.tokenKey }, 'a record in Redis cannot be read');
      return this.#refuse(exchange, storeAway);
    }
    this.decide(exchange, verdict.tokenRecord !== null);
  }

  #unknown(exchange: Exchange): void {
    const credential = exchange.credential as Exclude<Credential, { kind: 'foreign' }>;
    this.#parts.cache.dropToken(credential.id);
    exchange.token = undefined;
    exchange.limitIndex = -1;
    this.#refuse(exchange, credential.kind === 'bearer' ? invalidToken : invalidSignature);
  }

  #outsideWindow(exchange: Exchange, nowMs: number): void {
    const { token, credential } = exchange;
    if (token === undefined || credential === undefined) return this.#refuse(exchange, storeAway);
    this.#refuse(exchange, outsideWindow(token, nowMs, credential));
  }

  /** Stage 6. */
  forward(exchange: Exchange): void {
    const { upstream } = this.#parts;
    if (upstream === undefined) throw new Error('a request is to be forwarded and there is no upstream');
    const relay = exchange.startRelay();
    const call = upstream.send(upstreamRequest(exchange), relay);
    relay.follow(call);
    exchange.body?.follow(call);
  }

  /** A refusal in a macrotask of its own already (a reply of Redis). */
  #refuse(exchange: Exchange, denial: Denial): void {
    const isFailure = denial === invalidToken || denial === invalidSignature;
    if (isFailure && exchange.foreignFromCache) return this.#foreign.resolveAgain(exchange);
    exchange.refuse(isFailure ? failedAttempt(this.#parts.failures, exchange, denial) : denial, false);
  }

  refuseLater(exchange: Exchange, denial: Denial): void {
    this.#later.refuse(exchange, denial);
  }

  limitFields(exchange: Exchange): string {
    const limit = limitOf(exchange);
    return limit === undefined ? '' : rateFields(limit, exchange);
  }

  /** Stage 7, whatever the end. */
  finished(exchange: Exchange): void {
    this.inFlight--;
    recordExchange(exchange, this.#parts.log, this.#parts.metrics, this.#settings.logQuery, this.#redaction);
  }
}

/** The limit that the verdict spoke of. */
function limitOf({ token, tenant, limitIndex }: Exchange): LimitHeaders | undefined {
  if (token === undefined || limitIndex < 0) return undefined;
  const own = token.limitHeaders.length;
  return limitIndex < own ? token.limitHeaders[limitIndex] : tenant?.limitHeaders[limitIndex - own];
}
