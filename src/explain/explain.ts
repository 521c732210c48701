/**
 * Why a request is admitted or refused: every check of the data plane on a request that is described, not sent.
 *
 * It makes no decision of its own. Each check calls the function that the pipeline calls, under the records as they are
 * in Redis now, and the last question goes to the admission script itself, which is asked to write nothing: nothing is
 * charged, no signature is used up. Left out is only what lives in one process: the count of failed authentications.
 */
import { verdictCodes } from '../admission/ticket.js';
import type { Preview } from '../admission/preview.js';
import type { Config } from '../config/schema.js';
import { OperatorError } from '../core/failure.js';
import type { Denial } from '../core/problems.js';
import {
  type BearerCredential,
  extractCredential,
  invalidSignature,
  invalidToken,
  isDenial,
  type SignatureCredential,
} from '../credential/extract.js';
import { claimOf, claimUntilMs } from '../credential/hmac.js';
import { HmacSecrets } from '../credential/hmac-secrets.js';
import { parseMasterKeys } from '../credential/sealed-secret.js';
import { outsideWindow, type Verification, verifyCredential } from '../credential/verify.js';
import { authorize } from '../dataplane/authorize.js';
import {
  badPath,
  badQuery,
  quotaUsedUp,
  rateLimited,
  replayed,
  signedBodyTooLarge,
  storeAway,
} from '../dataplane/refusals.js';
import { bodyTooLarge } from '../dataplane/request-body.js';
import { routeOf, selfDescriptionRoute } from '../dataplane/self-description.js';
import { pipelineSettings } from '../dataplane/settings.js';
import { createHeaderClassifier } from '../http/drop-list.js';
import { AddressList, TrustedProxies } from '../http/forwarded.js';
import { normalisePath, queryAllowed } from '../policy/path.js';
import type { Policy } from '../policy/routes.js';
import { keys } from '../redis/keys.js';
import type { Store } from '../redis/store.js';
import type { PreparedToken } from '../token/cache.js';
import {
  type DescribedRequest,
  type ReadingParts,
  readDescription,
  type RequestDescription,
} from './described-request.js';
import { expectedFromHead, expectedOf, ownSignature } from './expected-signature.js';
import { Checklist, type ExplainedLimit, type ExplainedSignature, type Explanation } from './explanation.js';
import { listDecision, listLimits } from './listing.js';
import { LiveRecords } from './live-records.js';

/** What was found out so far. */
interface Findings {
  readonly request: DescribedRequest;
  readonly list: Checklist;
  token: PreparedToken | undefined;
  limits: readonly ExplainedLimit[];
  signature: ExplainedSignature | null;
}

type KnownCredential = BearerCredential | SignatureCredential;

interface Presented {
  readonly credential: KnownCredential;
  readonly token: PreparedToken;
  /** Nobody showed it: the token's id stands for its secret. */
  readonly assumed: boolean;
}

/** Records that are changed this often while one explanation is made: give up. */
const roundsMax = 4;

export class Explainer {
  readonly #records: LiveRecords;
  readonly #policy: Policy;
  readonly #reading: ReadingParts;
  readonly #addresses = new AddressList();
  readonly #secrets: HmacSecrets;

  /**
   * `note` hears one sentence for the operator when a secret cannot be opened. With `within`, the slug of a tenant, only
   * its tokens are known.
   */
  constructor(
    config: Omit<Config, 'policy'>,
    policy: Policy,
    store: Store,
    note: (message: string) => void,
    within?: string,
  ) {
    this.#records = new LiveRecords(store, within);
    this.#policy = policy;
    this.#reading = {
      settings: pipelineSettings(config),
      classify: createHeaderClassifier({
        hmacPrefix: config.hmacHeaderPrefix,
        messageSignatures: config.messageSignatures,
      }),
      apiKeyHeader: config.apiKeyHeader,
      trustedProxies: new TrustedProxies(config.trustedProxies),
    };
    const masterKeys = config.masterKey === undefined ? undefined : parseMasterKeys(config.masterKey);
    this.#secrets = new HmacSecrets(masterKeys, note);
  }

  /**
   * Explains a request. Without a credential in it, `tokenId` names the token whose secret is taken for shown.
   * @throws OperatorError when the request names another token than `tokenId`; StoreUnavailableError.
   */
  async explain(description: RequestDescription, tokenId?: string): Promise<Explanation> {
    for (let round = 0; round < roundsMax; round++) {
      const explanation = await this.#attempt(description, tokenId);
      if (explanation !== undefined) return explanation;
    }
    throw new OperatorError('The token or its tenant is being changed all the time: try again.');
  }

  /** Undefined when a record moved meanwhile. */
  async #attempt(description: RequestDescription, tokenId: string | undefined): Promise<Explanation | undefined> {
    const request = readDescription(this.#reading, description);
    const list = new Checklist();
    const found: Findings = { request, list, token: undefined, limits: [], signature: null };
    this.#examine(found, description.body.length);
    if (list.denial !== undefined) return concluded(found, list.denial);
    if (request.route?.public === true) {
      list.pass('route', `${request.route.pattern} is public: no credential is asked for, nothing is charged`);
      return concluded(found, undefined);
    }
    const nowMs = await this.#records.nowMs();
    const presented = await this.#present(found, tokenId, Math.floor(nowMs / 1000));
    if (presented === undefined) return concluded(found, list.denial);
    return this.#decide(found, presented);
  }

  /** The stages before the credential; sets path and route. */
  #examine({ request, list }: Findings, bodyBytes: number): void {
    const { settings } = this.#reading;
    const { head, method, query, rawPath, headFault } = request;
    list.judge('request', headFault, headFault?.detail ?? `${method}, ${head.forwarded.length / 2} fields passed on`);
    if (list.denial !== undefined) return;
    const path = normalisePath(rawPath);
    const pathDenial = path === '' ? badPath : query !== undefined && !queryAllowed(query) ? badQuery : undefined;
    list.judge(
      'path',
      pathDenial,
      pathDenial?.detail ??
        (path === rawPath
          ? path
          : `${rawPath}, sent on as ${path}; where a proxy asks, 400: it sends the path as it came`),
    );
    if (list.denial !== undefined) return;
    request.path = path;
    request.route = routeOf(this.#policy, settings.wellKnown, method, path);
    const bytes = Math.max(bodyBytes, head.contentLength);
    let bodyDenial = settings.bodyBytesMax > 0 && bytes > settings.bodyBytesMax ? bodyTooLarge : undefined;
    if (head.isSigned && request.route?.public !== true && bytes > settings.hmacBodyBytesMax) {
      bodyDenial ??= signedBodyTooLarge;
    }
    list.judge('body', bodyDenial, `${bytes} bytes`);
  }

  /** The credential of the request, or one taken for shown, and its token; undefined when that is refused. */
  async #present(found: Findings, tokenId: string | undefined, nowS: number): Promise<Presented | undefined> {
    const { request, list } = found;
    const extracted = extractCredential(request.head, this.#reading.settings);
    if (isDenial(extracted)) {
      const isMissing = extracted.problem.slug === 'missing-credentials';
      if (isMissing && tokenId !== undefined) return this.#assume(found, tokenId, nowS);
      if (request.head.hasHmac) found.signature = expectedFromHead(request, nowS);
      list.judge('credential', extracted, extracted.detail);
      return undefined;
    }
    const id = extracted.kind === 'foreign' ? await this.#records.foreignId(extracted.digest) : extracted.id;
    if (id === null) {
      list.judge('credential', invalidToken, 'no token was imported with the SHA-256 of this one');
      return undefined;
    }
    if (tokenId !== undefined && tokenId !== id) {
      throw new OperatorError(`The request names the token ${id} and not ${tokenId}: leave one of them out.`, 2);
    }
    const credential: KnownCredential =
      extracted.kind === 'foreign' ? { kind: 'bearer', id, digest: extracted.digest } : extracted;
    list.pass('credential', `${kindNames[credential.kind]} of token ${id}`);
    const token = await this.#records.token(id);
    if (token === undefined) {
      if (credential.kind !== 'bearer') found.signature = expectedOf(request, credential, null);
      list.judge('token', invalidOf(credential), `there is no token ${id}`);
      return undefined;
    }
    return { credential, token, assumed: false };
  }

  async #assume({ request, list }: Findings, tokenId: string, nowS: number): Promise<Presented | undefined> {
    const token = await this.#records.token(tokenId);
    if (token === undefined) {
      list.assume('credential', `token ${tokenId}`);
      list.judge('token', invalidToken, `there is no token ${tokenId}`);
      return undefined;
    }
    const { mode } = token.record;
    list.assume(
      'credential',
      `${mode === 'hmac' ? 'a right signature' : 'the right Bearer token'} of token ${tokenId}`,
    );
    const credential: KnownCredential =
      mode === 'hmac'
        ? ownSignature(token, this.#secrets, request, nowS)
        : { kind: 'bearer', id: tokenId, digest: token.secretDigest };
    return { credential, token, assumed: true };
  }

  /** As the pipeline decides: the record, then Redis in one question. */
  async #decide(found: Findings, presented: Presented): Promise<Explanation | undefined> {
    const { request, list } = found;
    const { credential, token, assumed } = presented;
    const { settings } = this.#reading;
    found.token = token;
    const verified: Verification = { authentic: false, notBeforeMs: 0, notAfterMs: 0 };
    const secretDenial = verifyCredential(token, credential, this.#secrets, request, verified);
    if (credential.kind !== 'bearer') {
      const isReadable = secretDenial?.problem.status !== 503 && token.record.mode === 'hmac';
      found.signature = expectedOf(request, credential, assumed || !isReadable ? null : verified.authentic);
    }
    const tenant = await this.#records.tenant(token.record.tenant);
    const pending =
      secretDenial ?? (tenant && authorize(token, tenant, request, this.#policy, settings.tenantHost, this.#addresses));
    const isSigned = credential.kind !== 'bearer' && !assumed;
    const claim = isSigned ? claimOf(credential.signature) : '';
    const keptUntilMs = isSigned ? claimUntilMs(credential.timestampS) : 0;
    const claimKey = keys.replay(token.id, keptUntilMs);
    const claims = isSigned && pending === undefined;
    const cost = request.route?.cost ?? 1;
    const preview = await this.#records.preview({
      tokenKey: token.tokenKey,
      tokenVersion: token.version,
      tenantKey: token.tenantKey,
      tenantVersion: tenant?.version ?? 0,
      cost: pending === undefined ? cost : 0,
      notBeforeMs: secretDenial === undefined ? verified.notBeforeMs : 0,
      notAfterMs: secretDenial === undefined ? verified.notAfterMs : 0,
      claim: claims ? claim : '',
      claimKey,
      claimUntilMs: keptUntilMs,
    });
    if (preview.verdict.code === verdictCodes.moved) return undefined;
    const isUsed = isSigned && (await this.#records.isClaimed(claimKey, claim));
    listDecision(list, {
      ...presented,
      request,
      tenant,
      secretDenial,
      verified,
      nowMs: preview.verdict.nowMs,
      isUsed,
      policy: this.#policy,
      tenantHost: settings.tenantHost,
      addresses: this.#addresses,
    });
    found.limits = listLimits(list, preview, token, tenant, cost);
    return concluded(found, refusalOf(preview, pending, token, credential));
  }
}

const admitted = 'The request goes to the upstream.';
const answeredHere = 'The request is answered here: its token reads its own scopes and limits.';

const kindNames = {
  bearer: 'Bearer token',
  hmac: 'HMAC signature',
  'message-signature': 'message signature (RFC 9421)',
} as const;

function invalidOf({ kind }: KnownCredential): Denial {
  return kind === 'bearer' ? invalidToken : invalidSignature;
}

/** What the pipeline makes of the verdict; undefined: the request goes on. */
function refusalOf(
  { verdict }: Preview,
  pending: Denial | undefined,
  token: PreparedToken,
  credential: KnownCredential,
): Denial | undefined {
  switch (verdict.code) {
    case verdictCodes.unknown:
      return invalidOf(credential);
    case verdictCodes.tooLate:
    case verdictCodes.tooEarly:
      return outsideWindow(token, verdict.nowMs, credential);
    case verdictCodes.replayed:
      return replayed;
    case verdictCodes.limited:
      return rateLimited;
    case verdictCodes.quotaExceeded:
      return quotaUsedUp;
    case verdictCodes.admitted:
    case verdictCodes.confirmed:
      return pending;
    case verdictCodes.moved:
    case verdictCodes.storeEmpty:
    case verdictCodes.unreadable:
    case verdictCodes.overloaded:
    case verdictCodes.storeUnavailable:
      return storeAway;
  }
}

function concluded({ request, list, token, limits, signature }: Findings, denial: Denial | undefined): Explanation {
  const { route } = request;
  const record = token?.record;
  return {
    request: {
      method: request.method,
      target: request.targetAsSent,
      host: request.host,
      scheme: request.secure ? 'https' : 'http',
      address: request.clientAddress,
    },
    verdict: {
      admitted: denial === undefined,
      status: denial?.problem.status ?? null,
      outcome: denial?.problem.slug ?? 'ok',
      detail: denial?.detail ?? (route === selfDescriptionRoute ? answeredHere : admitted),
    },
    route: route === undefined ? null : { pattern: route.pattern, scopes: route.scopes, cost: route.cost },
    token:
      record === undefined
        ? null
        : {
            id: record.id,
            tenant: record.tenant,
            name: record.name,
            mode: record.mode,
            state: record.state,
            version: record.version,
          },
    checks: list.all(),
    limits,
    signature,
  };
}
