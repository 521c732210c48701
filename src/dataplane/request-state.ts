/** What is known of one request while it is decided: what the stages find out, in their order, and nothing they do. */
import type { LeaseQuestion } from '../admission/ticket.js';
import type { Denial } from '../core/problems.js';
import type { Credential } from '../credential/extract.js';
import { emptyBodySha256 } from '../credential/hmac.js';
import type { TrustedProxies } from '../http/forwarded.js';
import type { RequestHead } from '../http/request-head.js';
import type { Route } from '../policy/routes.js';
import type { PreparedTenant, PreparedToken } from '../token/cache.js';
import type { AuthorizationSubject } from './authorize.js';
import type { RequestBody } from './request-body.js';

export class RequestState implements AuthorizationSubject {
  readonly head: RequestHead;
  /** Monotonic ms. */
  readonly startedAtMs: number;
  body: RequestBody | undefined;

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
  /** The principal: set once the secret proved right. */
  token: PreparedToken | undefined;
  tenant: PreparedTenant | undefined;
  /**
   * The refusal decided so far: under a cached record it stands once Redis has confirmed the record's version, before that
   * stage it stands at once and waits for its macrotask only (later-answers.ts).
   */
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
  claim = '';
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
  /** `ok`, the slug of a problem, or `client-closed`. */
  outcome = '';
  bytesOut = 0;
  /** Until the head of the upstream's answer, ms; 0 when it was not asked. */
  upstreamMs = 0;

  constructor(head: RequestHead, startedAtMs: number) {
    this.head = head;
    this.startedAtMs = startedAtMs;
  }

  /** Whether bytes of the request's body are still to come. */
  get bodyIsComing(): boolean {
    return this.body !== undefined && !this.body.complete;
  }

  /** Who asks, and for what host; `scheme` is the listener's. Nobody is believed but a trusted proxy. */
  takeClient(trustedProxies: TrustedProxies, scheme: 'http' | 'https'): void {
    const { peer, peerTrusted, forwardedFor, forwardedProto, forwardedHost, host } = this.head;
    this.clientAddress = trustedProxies.clientAddress(peer, forwardedFor);
    this.secure = (peerTrusted ? trustedProxies.scheme(peer, forwardedProto, scheme) : scheme) === 'https';
    this.host = peerTrusted ? trustedProxies.host(peer, forwardedHost, host) : host;
  }

  /** Forgets what was decided under a record, before it is decided again. */
  undecide(): void {
    this.token = undefined;
    this.pending = undefined;
    this.cost = 0;
    this.tokenVersion = 0;
    this.tenantKey = '';
    this.tenantVersion = 0;
    this.notBeforeMs = 0;
    this.notAfterMs = 0;
    this.claim = '';
    this.leasable = false;
    this.lease = null;
  }
}
