/**
 * The data plane's listener: turns what the binding reports into an exchange and hands it to the pipeline.
 *
 * Everything of a request is copied before the handler returns. `onAborted` is attached first and the rest runs under
 * one try: an exception that reaches the binding ends the process.
 */
import { RequestHead, RequestHeadReader } from '../http/request-head.js';
import { OperatorError } from '../core/failure.js';
import type { HeaderClassifier } from '../http/drop-list.js';
import type { TrustedProxies } from '../http/forwarded.js';
import type { Logger } from '../telemetry/logger.js';
import type { HttpApp, HttpBinding, HttpRequest, HttpResponse } from './binding.js';
import { Exchange } from './exchange.js';
import type { Pipeline } from './pipeline.js';
import { RequestBody } from './request-body.js';

export interface ListenerOptions {
  readonly host: string;
  readonly port: number;
  readonly tls: { readonly certPath: string; readonly keyPath: string } | undefined;
  /** No other process may share the port. */
  readonly exclusive: boolean;
  readonly apiKeyHeader: boolean;
  /** A body of which nothing moves this long is cut off, ms. */
  readonly bodyIdleMs: number;
}

type ListenWithOptions = (
  host: string,
  port: number,
  options: number,
  done: (socket: ListenSocket | false) => void,
) => unknown;
type ListenSocket = Parameters<HttpBinding['us_listen_socket_close']>[0];

const sweepIntervalMs = 1000;

export class DataplaneListener {
  readonly #binding: HttpBinding;
  readonly #pipeline: Pipeline;
  readonly #reader: RequestHeadReader;
  readonly #trusted: TrustedProxies;
  readonly #logger: Logger;
  readonly #options: ListenerOptions;
  readonly #app: HttpApp;
  readonly #withBody = new Set<Exchange>();
  readonly #sweep: NodeJS.Timeout;
  #socket: ListenSocket | undefined;

  constructor(
    binding: HttpBinding,
    pipeline: Pipeline,
    classify: HeaderClassifier,
    trusted: TrustedProxies,
    logger: Logger,
    options: ListenerOptions,
  ) {
    this.#binding = binding;
    this.#pipeline = pipeline;
    this.#reader = new RequestHeadReader(classify, options.apiKeyHeader);
    this.#trusted = trusted;
    this.#logger = logger;
    this.#options = options;
    const { tls } = options;
    this.#app =
      tls === undefined ? binding.App() : binding.SSLApp({ cert_file_name: tls.certPath, key_file_name: tls.keyPath });
    this.#app.any('/*', (res, req) => this.#handle(res, req));
    this.#sweep = setInterval(() => this.#cutIdleBodies(), sweepIntervalMs);
    this.#sweep.unref();
  }

  /**
   * Opens the port (0: a free one) and answers `host:port`. Several processes may share it (SO_REUSEPORT).
   * @throws OperatorError when the address is taken or not ours, or the certificate cannot be read.
   */
  async listen(): Promise<string> {
    const { host, port, exclusive } = this.#options;
    const sharing = exclusive ? this.#binding.LIBUS_LISTEN_EXCLUSIVE_PORT : 0;
    const socket = await new Promise<ListenSocket | false>((resolve) => {
      // The binding takes the options here too; its declarations know them without a host only.
      (this.#app.listen as unknown as ListenWithOptions).call(this.#app, host, port, sharing, resolve);
    });
    if (!socket) {
      throw new OperatorError(
        `Cannot listen on ${host}:${port}: the address is taken or not of this machine; choose another TOLLKEEPER_LISTEN.`,
      );
    }
    this.#socket = socket;
    return `${host}:${this.#binding.us_socket_local_port(socket)}`;
  }

  /** Takes no new connections; answers from now on close theirs. */
  stopAccepting(): void {
    this.#pipeline.draining = true;
    if (this.#socket !== undefined) this.#binding.us_listen_socket_close(this.#socket);
    this.#socket = undefined;
  }

  /** Closes every connection, idle or not. */
  close(): void {
    this.stopAccepting();
    clearInterval(this.#sweep);
    this.#app.close();
  }

  #handle(res: HttpResponse, req: HttpRequest): void {
    const head = new RequestHead();
    const exchange = new Exchange(this.#pipeline, res, head, performance.now());
    res.onAborted(() => exchange.aborted());
    try {
      head.method = req.getCaseSensitiveMethod();
      head.peer = Buffer.from(res.getRemoteAddressAsText()).toString('latin1');
      head.peerTrusted = this.#trusted.trusts(head.peer);
      const rawPath = req.getUrl();
      // undefined without a `?`, '' behind a bare one: the difference goes upstream.
      const query = req.getQuery() as string | undefined;
      this.#reader.begin(head);
      req.forEach(this.#reader.field);
      const fault = this.#reader.finish();
      if (fault === undefined && head.contentLength !== 0) this.#attachBody(exchange, res);
      this.#pipeline.begin(exchange, fault, rawPath, query);
    } catch (error) {
      this.#logger.error({ err: error }, 'a request was not handled: this is a bug');
      exchange.cut('internal-error');
    }
  }

  #attachBody(exchange: Exchange, res: HttpResponse): void {
    const body = new RequestBody(res, exchange.head.contentLength, exchange.startedAtMs);
    exchange.body = body;
    this.#withBody.add(exchange);
    res.onData((chunk, isLast) => {
      try {
        if (isLast) this.#withBody.delete(exchange);
        body.chunk(chunk, isLast, performance.now());
      } catch (error) {
        this.#logger.error({ err: error }, 'a request body was not handled: this is a bug');
        exchange.cut('internal-error');
      }
    });
  }

  /** A paused connection has no idle timeout in the binding, and does not tell that its client left. */
  #cutIdleBodies(): void {
    const stalledSinceMs = performance.now() - this.#options.bodyIdleMs;
    for (const exchange of this.#withBody) {
      if (exchange.over) this.#withBody.delete(exchange);
      else if ((exchange.body?.movedAtMs ?? 0) < stalledSinceMs) exchange.cut('upstream-timeout');
    }
  }
}
