/**
 * The order of the stages, and nothing else: read this file to know what happens to a request.
 *
 *   strict request -> route -> credential -> [body digest] -> decide -> admission -> forward -> record
 *
 * A decision is made under the cached record of the token and tenant and then put to Redis in one question: are these
 * versions still current, and if so charge this cost. A record that moved comes back with the reply and the decision
 * is made again, so a revocation, a rotation or a new limit holds from the moment it was written, and a refused
 * request is charged nothing. `settled` is the only place where a request goes back a stage.
 */
import { type Verdict, verdictCodes } from '../admission/admit.js';
import type { AdmissionGate } from '../admission/batcher.js';
import type { OutageLimits } from '../admission/outage.js';
import { type LimitHeaders, rateFields } from '../admission/rate-headers.js';
import type { AccessLog } from '../accesslog/writer.js';
import { inPollPhase } from '../core/poll-phase.js';
import type { Denial } from '../core/problems.js';
import type { AuthFailures } from '../credential/auth-failures.js';
import {
  type BearerCredential,
  type Credential,
  type CredentialOptions,
  extractCredential,
  invalidSignature,
  invalidToken,
  isDenial,
} from '../credential/extract.js';
import { claimOf, claimUntilMs } from '../credential/hmac.js';
import type { HmacSecrets } from '../credential/hmac-secrets.js';
import { BodyCollector } from '../credential/signed-body.js';
import { outsideWindow, type Verification, verifyCredential } from '../credential/verify.js';
import type { AddressList, TrustedProxies } from '../http/forwarded.js';
import type { OriginalRequest } from '../http/original-request.js';
import { newRequestId } from '../http/request-id.js';
import { normalisePath, queryAllowed } from '../policy/path.js';
import type { OutageMode, Policy, Route } from '../policy/routes.js';
import { keys } from '../redis/keys.js';
import type { Logger } from '../telemetry/logger.js';
import type { Metrics } from '../telemetry/metrics.js';
import { tenantLimits } from '../tenant/tenant.js';
import { prepareTenant, prepareToken, type RecordCache } from '../token/cache.js';
import { TokenRedaction } from '../token/redaction.js';
import { effectiveLimits } from '../token/token.js';
import type { Upstream } from '../upstream/upstream.js';
import { authorize } from './authorize.js';
import type { Exchange, ExchangeOwner } from './exchange.js';
import { upstreamRequest } from './forward.js';
import type { Overload } from './overload.js';
import { recordExchange } from './record.js';
import {
  badPath,
  badQuery,
  blocked,
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
import { describeSelf, selfDescriptionPath, selfDescriptionRoute } from './self-description.js';
import type { VerifyExchange } from './verify-exchange.js';

export interface PipelineSettings extends CredentialOptions {
  /** What the data plane's own listener speaks. */
  readonly scheme: 'http' | 'https';
  readonly tenantHost: string;
  /** Answer callers that ask about themselves. */
  readonly wellKnown: boolean;
  readonly bodyBytesMax: number;
  readonly hmacBodyBytesMax: number;
  readonly logQuery: boolean;
  /** For routes that do not say otherwise. */
  readonly onStoreOutage: OutageMode;
}

export interface PipelineParts {
  readonly settings: PipelineSettings;
  readonly trustedProxies: TrustedProxies;
  readonly addresses: AddressList;
  readonly failures: AuthFailures;
  readonly cache: RecordCache;
  readonly secrets: HmacSecrets;
  readonly admission: AdmissionGate;
  readonly outage: OutageLimits;
  readonly overload: Overload;
  /** Undefined where nothing is forwarded: the data plane does not listen. */
  readonly upstream: Upstream | undefined;
  readonly log: AccessLog;
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** Id of the token imported with this SHA-256; null when there is none; rejects when Redis cannot say. */
  readonly findForeign: (sha256Hex: string) => Promise<string | null>;
}

/** A record that moves this often while one request is decided is written in a loop: give up rather than spin. */
const roundsMax = 4;

export class Pipeline implements ExchangeOwner {
  /** Replaced as a whole when the policy is reloaded; a request keeps the route it was matched with. */
  policy: Policy;
  draining = false;
  inFlight = 0;
  readonly watched = new Set<Exchange>();
  readonly #parts: PipelineParts;
  readonly #settings: PipelineSettings;
  readonly #redaction: TokenRedaction;
  readonly #found: Verification = { authentic: false, notBeforeMs: 0, notAfterMs: 0 };
  /** Decided without Redis, inside the binding's handler. */
  #decided: Exchange[] = [];

  constructor(parts: PipelineParts, policy: Policy) {
    this.#parts = parts;
    this.#settings = parts.settings;
    this.#redaction = new TokenRedaction(parts.settings.tokenPrefix);
    this.policy = policy;
  }

  /** Most bytes a body may have, 0 for no limit; one of unknown length is counted while it comes. */
  get bodyBytesMax(): number {
    return this.#settings.bodyBytesMax;
  }

  /** Stage 1 to 3, inside the binding's handler: nothing here may answer at once (see exchange.ts). */
  begin(exchange: Exchange, headFault: Denial | undefined, rawPath: string, query: string | undefined): void {
    this.inFlight++;
    const { head } = exchange;
    exchange.requestId = this.#requestId(head.requestId);
    exchange.method = head.method;
    const { trustedProxies } = this.#parts;
    const { scheme } = this.#settings;
    exchange.clientAddress = trustedProxies.clientAddress(head.peer, head.forwardedFor);
    // Nobody else is believed.
    exchange.secure =
      (head.peerTrusted ? trustedProxies.scheme(head.peer, head.forwardedProto, scheme) : scheme) === 'https';
    exchange.host = head.peerTrusted ? trustedProxies.host(head.peer, head.forwardedHost, head.host) : head.host;
    exchange.targetAsSent = query === undefined ? rawPath : `${rawPath}?${query}`;
    if (headFault !== undefined) return this.#refuseSoon(exchange, headFault);
    if (this.#parts.overload.sheds(this.inFlight)) return this.#refuseSoon(exchange, shed);
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
    if (denial !== undefined) return this.#refuseSoon(exchange, denial);
    if (this.#parts.overload.sheds(this.inFlight)) return this.#refuseSoon(exchange, shed);
    const mark = original.target.indexOf('?');
    if (mark < 0) this.#examine(exchange, original.target, undefined);
    else this.#examine(exchange, original.target.slice(0, mark), original.target.slice(mark + 1));
  }

  /** The client's own, which is echoed and logged, unless there is none or it may be a secret. */
  #requestId(sent: string): string {
    return sent === '' || this.#redaction.suspects(sent) ? newRequestId() : sent;
  }

  /** Path, route and credential: the same for a request that is forwarded and one that is asked about. */
  #examine(exchange: Exchange, rawPath: string, query: string | undefined): void {
    const { head } = exchange;
    const asked = exchange.isQuestion;
    const path = normalisePath(rawPath);
    if (path === '') return this.#refuseSoon(exchange, badPath);
    // The proxy sends what it was sent: only a path that is its own normal form is what was decided about.
    if (asked && path !== rawPath) return this.#refuseSoon(exchange, notNormalPath);
    if (query !== undefined && !queryAllowed(query)) return this.#refuseSoon(exchange, badQuery);
    const { bodyBytesMax } = this.#settings;
    if (bodyBytesMax > 0 && head.contentLength > bodyBytesMax) return this.#refuseSoon(exchange, bodyTooLarge);
    exchange.path = path;
    exchange.target = query === undefined ? path : `${path}?${query}`;

    exchange.route = asked
      ? this.policy.match(exchange.method, path)
      : routeOf(this.policy, this.#settings.wellKnown, exchange.method, path);
    if (exchange.route?.public === true) return asked ? this.#answerSoon(exchange) : this.forward(exchange);

    // From the head alone, before the signature is looked at: such a body is never read.
    if (head.isSigned && head.contentLength > this.#settings.hmacBodyBytesMax) {
      return this.#refuseSoon(exchange, signedBodyTooLarge);
    }
    const credential = extractCredential(head, this.#settings);
    if (isDenial(credential)) return this.#noCredential(exchange, credential);
    exchange.credential = credential;
    // The body is not visible: what its signed Content-Digest says of it is all there is.
    if (asked && credential.kind === 'message-signature') exchange.bodySha256Hex = credential.bodySha256Hex;
    if (credential.kind === 'foreign') return this.#resolveForeign(exchange, credential.digest);
    if (credential.kind !== 'bearer') return this.#readSignedBody(exchange);
    this.#decide(exchange);
  }

  #noCredential(exchange: Exchange, denial: Denial): void {
    // A request without any credential is no guess; a malformed one is.
    if (denial.problem.slug === 'missing-credentials') return this.#refuseSoon(exchange, denial);
    this.#refuseSoon(exchange, denial.problem.status === 401 ? this.#failedAuthentication(exchange, denial) : denial);
  }

  /** An imported token is known by its hash alone; the id behind it is asked for once and kept. */
  #resolveForeign(exchange: Exchange, digest: Buffer): void {
    const { cache } = this.#parts;
    const digestHex = digest.toString('hex');
    const use = (id: string): void => {
      exchange.credential = { kind: 'bearer', id, digest };
      this.#decide(exchange);
    };
    const known = cache.foreignId(digestHex);
    exchange.foreignFromCache = known !== undefined;
    if (known !== undefined) return use(known);
    const blockedForS = this.#parts.failures.blockedForS(exchange.clientAddress, exchange.startedAtMs);
    if (blockedForS > 0) return this.#refuseSoon(exchange, this.#blocked(exchange, blockedForS));
    this.#parts.findForeign(digestHex).then(
      (id) => {
        if (exchange.over) return;
        if (id === null) return exchange.refuse(this.#failedAuthentication(exchange, invalidToken), false);
        cache.putForeignId(digestHex, id);
        use(id);
      },
      () => exchange.refuse(storeAway, false),
    );
  }

  /** The token behind a remembered hash is gone or has another secret: the hash may have been imported anew. */
  #resolveForeignAgain(exchange: Exchange): void {
    const { digest } = exchange.credential as BearerCredential;
    this.#parts.cache.dropForeignId(digest.toString('hex'));
    this.#resolveForeign(exchange, digest);
  }

  /** A signature covers the body: it is read whole, within its bound, before anything is decided. */
  #readSignedBody(exchange: Exchange): void {
    const { body } = exchange;
    if (body === undefined) return this.#decide(exchange);
    const collector = new BodyCollector(this.#settings.hmacBodyBytesMax);
    body.collect(
      collector,
      () => {
        exchange.bodySha256Hex = collector.digestHex();
        this.#decide(exchange);
      },
      () => this.#refuseSoon(exchange, signedBodyTooLarge),
    );
  }

  /** Stage 4: what the cached records say. The verdict of Redis on their versions comes to {@link settled}. */
  #decide(exchange: Exchange, tokenIsFresh = false): void {
    const { cache, admission } = this.#parts;
    const credential = exchange.credential as Exclude<Credential, { kind: 'foreign' }>;
    const token = cache.token(credential.id);
    exchange.token = undefined;
    exchange.pending = undefined;
    exchange.cost = 0;
    exchange.tokenVersion = 0;
    exchange.tenantKey = '';
    exchange.tenantVersion = 0;
    exchange.notBeforeMs = 0;
    exchange.notAfterMs = 0;
    exchange.claimKey = '';
    exchange.leasable = false;
    if (token === undefined) {
      const blockedForS = this.#parts.failures.blockedForS(exchange.clientAddress, exchange.startedAtMs);
      if (blockedForS > 0) return this.#refuseSoon(exchange, this.#blocked(exchange, blockedForS));
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
        exchange.claimKey = keys.replay(token.id, claimOf(credential.signature));
        exchange.claimUntilMs = claimUntilMs(credential.timestampS);
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
        // A lease tells what Redis said some time ago.
        if (verdict.nowMs === 0) return exchange.admitted();
        if (this.policy.servesKnown || this.#settings.onStoreOutage === 'serve-known') this.#remember(exchange);
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

  /** For an outage: Redis has just admitted this token. */
  #remember(exchange: Exchange): void {
    const capacity = Number(this.#limitOf(exchange)?.capacity ?? 0);
    const usedShare = capacity > 0 ? 1 - exchange.remaining / capacity : 0;
    this.#parts.outage.admitted(exchange, usedShare, performance.now());
  }

  /**
   * Redis cannot be asked: 503, or where the route says `serve-known` an answer for a Bearer token that was admitted
   * shortly before. Never for a signature: that it was not used before only Redis knows.
   */
  #withoutStore(exchange: Exchange): void {
    const { token, tenant, route, credential } = exchange;
    const mode = route?.onStoreOutage ?? this.#settings.onStoreOutage;
    if (mode === 'deny') return this.#refuse(exchange, storeAway);
    const { outage, metrics } = this.#parts;
    const nowMs = Date.now();
    const isGood =
      exchange.pending === undefined &&
      exchange.cost > 0 &&
      credential?.kind === 'bearer' &&
      nowMs >= exchange.notBeforeMs &&
      (exchange.notAfterMs === 0 || nowMs < exchange.notAfterMs);
    const verdict =
      isGood && token !== undefined && tenant !== undefined
        ? outage.serve(exchange, effectiveLimits(token.record), tenantLimits(tenant.record), performance.now())
        : 'unknown';
    if (verdict === 'unknown') {
      metrics.outageRequest('unknown');
      return this.#refuse(exchange, storeAway);
    }
    if (verdict === 'served') {
      metrics.outageRequest('served');
      return exchange.admitted();
    }
    metrics.outageRequest('limited');
    exchange.retryMs = verdict;
    this.#refuse(exchange, rateLimited);
  }

  /** The records are current: a refusal stands, and a caller that asked about itself is told. */
  #confirmed(exchange: Exchange): void {
    const { pending, token, tenant } = exchange;
    if (pending !== undefined) return this.#refuse(exchange, pending);
    if (token === undefined || tenant === undefined) return this.#refuse(exchange, storeAway);
    exchange.answer(200, 'ok', 'application/json', describeSelf(token, tenant, exchange), false, '');
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
    this.#decide(exchange, verdict.tokenRecord !== null);
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
    exchange.upstreamStartedAtMs = performance.now();
    exchange.forwarding(upstream.send(upstreamRequest(exchange), exchange));
  }

  /** A refusal in a macrotask of its own already (a reply of Redis). */
  #refuse(exchange: Exchange, denial: Denial): void {
    const isFailure = denial === invalidToken || denial === invalidSignature;
    if (isFailure && exchange.foreignFromCache) return this.#resolveForeignAgain(exchange);
    exchange.refuse(isFailure ? this.#failedAuthentication(exchange, denial) : denial, false);
  }

  /** Counts a failed authentication; past the limit of its address the answer is 429 instead. */
  #failedAuthentication(exchange: Exchange, denial: Denial): Denial {
    const { failures } = this.#parts;
    const blockedForS = failures.blockedForS(exchange.clientAddress, exchange.startedAtMs);
    if (blockedForS > 0) return this.#blocked(exchange, blockedForS);
    failures.count(exchange.clientAddress, exchange.startedAtMs);
    return denial;
  }

  #blocked(exchange: Exchange, forS: number): Denial {
    exchange.retryMs = forS * 1000;
    return blocked;
  }

  /** A refusal decided inside the handler leaves from the next macrotask: one for all of this turn. */
  #refuseSoon(exchange: Exchange, denial: Denial): void {
    exchange.pending = denial;
    this.#answerSoon(exchange);
  }

  #answerSoon(exchange: Exchange): void {
    if (this.#decided.push(exchange) === 1) inPollPhase(this.#sendDecided);
  }

  readonly #sendDecided = (): void => {
    const decided = this.#decided;
    this.#decided = [];
    for (const exchange of decided) {
      const denial = exchange.pending;
      if (denial === undefined) {
        exchange.admitted();
        continue;
      }
      // 4xx about the framing or its size end the connection; 401, 403, 429 of a sound request need not.
      exchange.refuse(denial, closesConnection(denial.problem.status));
    }
  };

  limitFields(exchange: Exchange): string {
    const limit = this.#limitOf(exchange);
    return limit === undefined ? '' : rateFields(limit, exchange);
  }

  /** The limit that the verdict spoke of. */
  #limitOf({ token, tenant, limitIndex }: Exchange): LimitHeaders | undefined {
    if (token === undefined || limitIndex < 0) return undefined;
    const own = token.limitHeaders.length;
    return limitIndex < own ? token.limitHeaders[limitIndex] : tenant?.limitHeaders[limitIndex - own];
  }

  finished(exchange: Exchange): void {
    this.inFlight--;
    recordExchange(exchange, this.#parts.log, this.#parts.metrics, this.#settings.logQuery, this.#redaction);
  }
}

/** The route of a normalised path on the data plane; who asks about itself has one of its own (`wellKnown`). */
export function routeOf(policy: Policy, wellKnown: boolean, method: string, path: string): Route | undefined {
  const describesSelf = path === selfDescriptionPath && (method === 'GET' || method === 'HEAD');
  return describesSelf && wellKnown ? selfDescriptionRoute : policy.match(method, path);
}

function closesConnection(status: number): boolean {
  return status === 400 || status === 405 || status === 411 || status === 413 || status === 414 || status === 431;
}
