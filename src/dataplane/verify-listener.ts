/**
 * The verify plane's listener: a proxy asks whether a request it holds may pass, and gets the pipeline's decision.
 *
 *   GET /verify           Caddy forward_auth, Traefik ForwardAuth, HAProxy: the refusal is the client's answer
 *   GET /verify/nginx     nginx auth_request: every refusal is 401 or 403, the true one is in headers
 *   any /verify/envoy/…   Envoy ext_authz: the original method, and the original target behind the prefix
 *
 * Only peers on the list of trusted proxies are answered: whoever can ask can make any client's request pass for
 * another one, and learn which tokens are good.
 */
import { OperatorError } from '../core/failure.js';
import { deny, type Denial } from '../core/problems.js';
import type { HeaderClassifier } from '../http/drop-list.js';
import type { TrustedProxies } from '../http/forwarded.js';
import { OriginalRequest, OriginalRequestReader } from '../http/original-request.js';
import { RequestHead, RequestHeadReader } from '../http/request-head.js';
import type { Logger } from '../telemetry/logger.js';
import type { HttpBinding, HttpRequest, HttpResponse } from './binding.js';
import type { Pipeline } from './pipeline.js';
import { Port } from './port.js';
import { VerifyExchange } from './verify-exchange.js';

export interface VerifyListenerOptions {
  readonly host: string;
  readonly port: number;
  /** No other process may share the port. */
  readonly exclusive: boolean;
  readonly apiKeyHeader: boolean;
  /** As configured, such as `X-Tollkeeper-`. */
  readonly hmacHeaderPrefix: string;
}

const verifyPath = '/verify';
const nginxPath = '/verify/nginx';
const envoyPrefix = '/verify/envoy';

const untrusted = deny(
  'address-not-allowed',
  'The verify plane answers trusted proxies only: add the address of this peer to TOLLKEEPER_TRUSTED_PROXIES.',
);
const unknownPath = deny('malformed-request', 'The verify plane has /verify, /verify/nginx and /verify/envoy/.');
const notGet = deny('method-not-allowed', 'Ask with GET; say the original method in X-Forwarded-Method.', {
  allow: 'GET, HEAD',
});
const withBody = deny('malformed-request', 'Ask without a body, and without Content-Length and Transfer-Encoding.');

/** An untrusted peer is named in the log at most this often, ms. */
const warningIntervalMs = 60_000;

export class VerifyListener {
  readonly #pipeline: Pipeline;
  readonly #heads: RequestHeadReader;
  readonly #originals: OriginalRequestReader;
  readonly #trusted: TrustedProxies;
  readonly #logger: Logger;
  readonly #options: VerifyListenerOptions;
  readonly #digestHeader: string;
  readonly #port: Port;
  #warnedAtMs = -warningIntervalMs;

  constructor(
    binding: HttpBinding,
    pipeline: Pipeline,
    classify: HeaderClassifier,
    trusted: TrustedProxies,
    logger: Logger,
    options: VerifyListenerOptions,
  ) {
    this.#pipeline = pipeline;
    this.#heads = new RequestHeadReader(classify, options.apiKeyHeader);
    this.#originals = new OriginalRequestReader(options.hmacHeaderPrefix, this.#heads.field);
    this.#trusted = trusted;
    this.#logger = logger;
    this.#options = options;
    this.#digestHeader = `${options.hmacHeaderPrefix}Content-SHA256`;
    const app = binding.App();
    this.#port = new Port(binding, app);
    app.any('/*', (res, req) => this.#handle(res, req));
  }

  /**
   * Opens the port (0: a free one) and answers `host:port`.
   * @throws OperatorError when the address is taken or not ours.
   */
  async listen(): Promise<string> {
    const { host, port, exclusive } = this.#options;
    const address = await this.#port.open(host, port, exclusive);
    if (address === undefined) {
      throw new OperatorError(
        `Cannot listen on ${host}:${port}: the address is taken or not of this machine; choose another ` +
          'TOLLKEEPER_VERIFY_LISTEN, or off.',
      );
    }
    return address;
  }

  /** Open connections, idle ones included. */
  get connections(): number {
    return this.#port.connections;
  }

  /** Takes no new connections. */
  async stopAccepting(): Promise<void> {
    await this.#port.stopAccepting();
  }

  /** Closes every connection, idle or not. */
  close(): void {
    this.#port.close();
  }

  #handle(res: HttpResponse, req: HttpRequest): void {
    const head = new RequestHead();
    const exchange = new VerifyExchange(this.#pipeline, res, head, performance.now());
    res.onAborted(() => exchange.aborted());
    try {
      const original = new OriginalRequest();
      const path = req.getUrl();
      const isEnvoy = path.startsWith(`${envoyPrefix}/`);
      if (path === nginxPath) exchange.asker = 'nginx';
      else if (isEnvoy) exchange.asker = 'envoy';
      exchange.digestHeader = this.#digestHeader;
      head.method = req.getCaseSensitiveMethod();
      head.peer = this.#port.peers.addressOf(res);
      head.peerTrusted = this.#trusted.trusts(head.peer);
      this.#heads.begin(head);
      this.#originals.begin(original);
      req.forEach(this.#originals.field);
      const fault = this.#unsound(head, path, isEnvoy);
      exchange.unsound = fault !== undefined;
      if (isEnvoy) this.#readRequestLine(req, head, original);
      this.#pipeline.beginVerify(exchange, fault ?? this.#originals.finish(), original);
    } catch (error) {
      this.#logger.error({ err: error }, 'a verify request was not handled: this is a bug');
      exchange.cut('internal-error');
    }
  }

  /** What is wrong with the verify request itself, whatever it asks. */
  #unsound(head: RequestHead, path: string, isEnvoy: boolean): Denial | undefined {
    if (!head.peerTrusted) {
      this.#warn(head.peer);
      return untrusted;
    }
    const fault = this.#heads.finish();
    if (fault !== undefined) return fault;
    if (head.contentLength !== 0) return withBody;
    if (isEnvoy) return undefined;
    if (path !== verifyPath && path !== nginxPath) return unknownPath;
    return head.method === 'GET' || head.method === 'HEAD' ? undefined : notGet;
  }

  #readRequestLine(req: HttpRequest, head: RequestHead, original: OriginalRequest): void {
    const query = req.getQuery() as string | undefined;
    const path = req.getUrl().slice(envoyPrefix.length);
    this.#originals.takeRequestLine(head.method, query === undefined ? path : `${path}?${query}`);
    if (original.host === '') original.host = head.host;
  }

  #warn(peer: string): void {
    const nowMs = performance.now();
    if (nowMs - this.#warnedAtMs < warningIntervalMs) return;
    this.#warnedAtMs = nowMs;
    this.#logger.warn(
      { peer },
      'a peer that is no trusted proxy asks the verify plane: see TOLLKEEPER_TRUSTED_PROXIES',
    );
  }
}
