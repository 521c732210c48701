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
import type { BodyBudget } from './body-budget.js';
import type { HttpApp, HttpBinding, HttpRequest, HttpResponse } from './binding.js';
import { Exchange } from './exchange.js';
import type { Pipeline } from './pipeline.js';
import { Port } from './port.js';
import { RequestBody } from './request-body.js';

export interface ListenerOptions {
  readonly host: string;
  readonly port: number;
  readonly tls: { readonly certPath: string; readonly keyPath: string } | undefined;
  /** No other process may share the port. */
  readonly exclusive: boolean;
  readonly apiKeyHeader: boolean;
  /** A body of which nothing moves this long ends its request, ms. */
  readonly bodyIdleMs: number;
  /** Memory that all bodies share. */
  readonly bodyBudget: BodyBudget;
}

const sweepIntervalMs = 1000;

/** @throws OperatorError when the binding cannot use the files; it does not say why. */
function tlsApp(binding: HttpBinding, { certPath, keyPath }: NonNullable<ListenerOptions['tls']>): HttpApp {
  try {
    return binding.SSLApp({ cert_file_name: certPath, key_file_name: keyPath });
  } catch {
    throw new OperatorError(
      `Cannot serve TLS with the certificate ${certPath} and the key ${keyPath}: both must be readable PEM files that ` +
        'belong together; check TOLLKEEPER_TLS_CERT and TOLLKEEPER_TLS_KEY.',
    );
  }
}

export class DataplaneListener {
  readonly #pipeline: Pipeline;
  readonly #reader: RequestHeadReader;
  readonly #trusted: TrustedProxies;
  readonly #logger: Logger;
  readonly #options: ListenerOptions;
  readonly #port: Port;
  readonly #sweep: NodeJS.Timeout;

  constructor(
    binding: HttpBinding,
    pipeline: Pipeline,
    classify: HeaderClassifier,
    trusted: TrustedProxies,
    logger: Logger,
    options: ListenerOptions,
  ) {
    this.#pipeline = pipeline;
    this.#reader = new RequestHeadReader(classify, options.apiKeyHeader);
    this.#trusted = trusted;
    this.#logger = logger;
    this.#options = options;
    const { tls } = options;
    const app = tls === undefined ? binding.App() : tlsApp(binding, tls);
    this.#port = new Port(binding, app);
    app.any('/*', (res, req) => this.#handle(res, req));
    this.#sweep = setInterval(() => this.#checkWatched(), sweepIntervalMs);
    this.#sweep.unref();
  }

  /**
   * Opens the port (0: a free one) and answers `host:port`. Several processes may share it (SO_REUSEPORT).
   * @throws OperatorError when the address is taken or not ours, or the certificate cannot be read.
   */
  async listen(): Promise<string> {
    const { host, port, exclusive } = this.#options;
    const address = await this.#port.open(host, port, exclusive);
    if (address === undefined) {
      throw new OperatorError(
        `Cannot listen on ${host}:${port}: the address is taken or not of this machine; choose another TOLLKEEPER_LISTEN.`,
      );
    }
    return address;
  }

  /** Open connections, idle ones included. */
  get connections(): number {
    return this.#port.connections;
  }

  /** Takes no new connections; answers from then on close theirs. */
  async stopAccepting(): Promise<void> {
    // In this order: a client told to close would come back to the port while it is still open.
    await this.#port.stopAccepting();
    this.#pipeline.draining = true;
  }

  /** Closes every connection, idle or not. */
  close(): void {
    this.#pipeline.draining = true;
    clearInterval(this.#sweep);
    this.#port.close();
  }

  #handle(res: HttpResponse, req: HttpRequest): void {
    const head = new RequestHead();
    const exchange = new Exchange(this.#pipeline, res, head, performance.now());
    res.onAborted(() => exchange.aborted());
    try {
      head.method = req.getCaseSensitiveMethod();
      head.peer = this.#port.peers.addressOf(res);
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
    const { bodyBudget } = this.#options;
    const { bodyBytesMax } = this.#pipeline;
    const body = new RequestBody(res, exchange.head.contentLength, bodyBytesMax, bodyBudget, exchange.startedAtMs);
    exchange.body = body;
    const { watched } = this.#pipeline;
    watched.add(exchange);
    res.onData((chunk, isLast) => {
      try {
        const denial = body.chunk(chunk, isLast, performance.now());
        if (denial !== undefined && !exchange.over) exchange.abandon(denial);
        if (isLast && !exchange.isBlocked) watched.delete(exchange);
      } catch (error) {
        this.#logger.error({ err: error }, 'a request body was not handled: this is a bug');
        exchange.cut('internal-error');
      }
    });
  }

  /** Where one side waits for the other, the binding's own timeouts would end what moves, and keep what does not. */
  #checkWatched(): void {
    const nowMs = performance.now();
    const { watched } = this.#pipeline;
    for (const exchange of watched) {
      if (!exchange.check(nowMs, this.#options.bodyIdleMs)) watched.delete(exchange);
    }
  }
}
