/**
 * The admin plane: its listener and what holds for every route on it. Answers that are no success are
 * `application/problem+json` (RFC 9457), also those for a path or method that does not exist.
 *
 * A browser on the operator's machine can be made to ask a loopback address under a name of the attacker's
 * (DNS rebinding), so the Host header must be one that no stranger can own: see {@link HostAllowList}.
 */
import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import { isIP } from 'node:net';
import Fastify, { type FastifyError, type FastifyInstance } from 'fastify';
import { parseAddress } from '../config/formats.js';
import { OperatorError } from '../core/failure.js';
import type { Logger } from '../telemetry/logger.js';
import { type AdminApiParts, registerApi } from './api.js';
import { HostAllowList } from './host.js';
import { registerHealth, type ReadinessReport } from './health.js';
import { registerMetrics } from './metrics-route.js';
import { sendProblem } from './problem.js';

export interface AdminServerOptions {
  /** `host:port`; port 0 takes a free one. */
  readonly listen: string;
  /** Further names that the Host header may have. */
  readonly hosts?: readonly string[];
  /** The text of `/metrics`. */
  readonly metrics: () => Promise<string>;
  readonly readiness: () => ReadinessReport;
  readonly logger: Logger;
  /** Without it there is no API: `/metrics` and the health routes alone. */
  readonly api?: Omit<AdminApiParts, 'logger'>;
}

/** Between two requests of a connection, ms. */
const keepAliveTimeoutMs = 30_000;
/** For one whole request to arrive, ms. */
const requestTimeoutMs = 10_000;
const bodyBytesMax = 1_048_576;
const probedMethods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'] as const;

export class AdminServer {
  readonly #options: AdminServerOptions;
  readonly #app: FastifyInstance;

  constructor(options: AdminServerOptions) {
    this.#options = options;
    this.#app = createApp(options);
  }

  /**
   * Opens the listener; answers `host:port` with the real port.
   * @throws OperatorError when the address cannot be listened on.
   */
  async listen(): Promise<string> {
    const { listen, logger } = this.#options;
    const at = parseAddress(listen);
    if (at === undefined) throw new OperatorError(`adminListen must be host:port, found ${listen}.`, 2);
    const { api } = this.#options;
    if (api !== undefined) await registerApi(this.#app, { ...api, logger });
    try {
      await this.#app.listen(at);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new OperatorError(
        `The admin plane cannot listen on ${listen} (${code ?? 'unknown reason'}): free the address or set ` +
          'TOLLKEEPER_ADMIN_LISTEN to another one.',
        1,
        { cause: error },
      );
    }
    const bound = this.#app.server.address();
    const address = bound === null || typeof bound === 'string' ? listen : hostAndPort(bound.address, bound.port);
    logger.info({ plane: 'admin', address }, 'listening');
    if (!isLoopback(at.host)) {
      logger.warn({ address }, 'the admin plane listens beyond this machine: let only your own network reach it');
    }
    return address;
  }

  /** Answers what is running, takes nothing new, and cuts off what is still open after `deadlineMs`. */
  async close(deadlineMs: number): Promise<void> {
    const timer = setTimeout(() => this.#app.server.closeAllConnections(), deadlineMs);
    await this.#app.close();
    clearTimeout(timer);
  }
}

function createApp(options: AdminServerOptions): FastifyInstance {
  const app = Fastify({
    logger: false,
    genReqId: () => randomUUID(),
    bodyLimit: bodyBytesMax,
    keepAliveTimeout: keepAliveTimeoutMs,
    requestTimeout: requestTimeoutMs,
    // A scraper's idle connection must not hold up the end of the process.
    forceCloseConnections: 'idle',
    frameworkErrors: (error, _request, reply) => {
      sendProblem(reply, error.statusCode ?? 400, 'Bad Request', refusalOf(error.code));
    },
  });
  const hosts = new HostAllowList([parseAddress(options.listen)?.host ?? '', ...(options.hosts ?? [])]);

  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id);
    reply.header('cache-control', 'no-store');
    reply.header('x-content-type-options', 'nosniff');
    if (hosts.allows(request.headers.host)) {
      done();
      return;
    }
    sendProblem(reply, 421, 'Misdirected Request', 'This Host is not one of the admin plane: ask it by its address.');
  });
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?', 1)[0] as string;
    const allowed = probedMethods.filter((method) => app.hasRoute({ method, url: path }));
    if (allowed.length === 0) {
      sendProblem(reply, 404, 'Not Found', 'There is nothing at this path of the admin plane.');
      return;
    }
    const allow = allowed.join(', ');
    reply.header('allow', allow);
    sendProblem(reply, 405, 'Method Not Allowed', `Use one of: ${allow}.`);
  });
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const status = error.statusCode ?? 500;
    if (status >= 500) {
      options.logger.error({ err: error, requestId: request.id }, 'the admin plane failed to answer');
      sendProblem(reply, 500, 'Internal Server Error', 'Look for the request id in the log of Tollkeeper.');
      return;
    }
    sendProblem(reply, status, STATUS_CODES[status] ?? 'Bad Request', refusalOf(error.code));
  });

  registerHealth(app, options.readiness);
  registerMetrics(app, options.metrics);
  return app;
}

/** Fastify's own words may repeat what the client sent; its code does not. */
function refusalOf(code: string): string {
  return `The request could not be read (${code}).`;
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

function hostAndPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
