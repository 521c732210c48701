/**
 * What the tests of the proxy path share: one sidecar before an upstream of bytes, and a token for it. The upstream
 * answers by the last segment of the path, so that each test brings its own answer.
 */
import type { Socket } from 'node:net';
import { type Installation, type IssuedToken, startInstallation } from './installation.js';
import { type RawExchangeOptions, type RawResult, rawExchange } from './raw-client.js';
import { type RawConnection, openConnection } from './raw-connection.js';
import type { RedisOptions } from './redis.js';
import type { Sidecar } from './sidecar.js';
import { until } from './until.js';
import { type RawUpstream, startRawUpstream } from './upstream.js';

export const proxyPolicy = `
policy:
  default: deny
  scopes: [files, secrets]
  routes:
    - { methods: [GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS], path: "/files/{name}", scope: files }
    - { methods: [GET, HEAD], path: "/secrets/{name}", scope: secrets }
    - { methods: [GET, HEAD, PUT, POST], path: "/open/{name}", public: true }
`;

/** Answers a whole request (Latin-1); undefined: the socket is its own. */
export type Script = (request: string, socket: Socket) => Buffer | string | undefined;

export interface ProxyRig {
  readonly installation: Installation;
  readonly upstream: RawUpstream;
  readonly sidecar: Sidecar;
  readonly token: IssuedToken;
  /** Lets the upstream answer `/files/<name>` so; answers the path. */
  script(name: string, answer: Script | Buffer | string): string;
  /** A request's bytes, with Host and the token. `lines` are further header lines. */
  request(method: string, path: string, lines?: readonly string[], body?: string): string;
  /** Sends one request on a new connection. */
  exchange(method: string, path: string, options?: RawExchangeOptions & { lines?: string[] }): Promise<RawResult>;
  connect(): Promise<RawConnection>;
  /** Whole requests that the upstream got for a path, Latin-1. */
  seen(path: string): string[];
  /** The log entry of a request, when it has been written. */
  logged(requestId: string): Promise<Record<string, string>>;
  /** Further sidecar before the same upstream. */
  another(env: Record<string, string>): Promise<Sidecar>;
  stop(): Promise<void>;
}

/** Starts everything; `env` is the sidecar's. */
export async function startProxyRig(env: Record<string, string> = {}, redis: RedisOptions = {}): Promise<ProxyRig> {
  const scripts = new Map<string, Script>();
  const requests: { path: string; request: string }[] = [];
  const upstream = await startRawUpstream((request, socket) => {
    const path = request.split(' ', 2)[1] ?? '';
    requests.push({ path, request });
    const script = scripts.get(path.replace(/\?.*$/, '').replace(/^.*\//, ''));
    return script === undefined ? 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok' : script(request, socket);
  });
  const installation = await startInstallation({ policy: proxyPolicy, redis });
  await installation.tenant('acme');
  const token = await installation.token('acme', '--scopes', 'files', '--limit', '1000000');
  const another = (more: Record<string, string>): Promise<Sidecar> =>
    installation.sidecar({ env: { TOLLKEEPER_UPSTREAM: upstream.url, ...more } });
  const sidecar = await another(env);

  const request = (method: string, path: string, lines: readonly string[] = [], body = ''): string =>
    [
      `${method} ${path} HTTP/1.1`,
      'Host: store.test',
      `Authorization: Bearer ${token.secret}`,
      ...lines,
      '',
      body,
    ].join('\r\n');
  return {
    installation,
    upstream,
    sidecar,
    token,
    script(name, answer) {
      scripts.set(name, typeof answer === 'function' ? answer : () => answer);
      return `/files/${name}`;
    },
    request,
    exchange: (method, path, { lines = [], ...options } = {}) =>
      rawExchange(sidecar.dataPort, request(method, path, lines), options),
    connect: () => openConnection(sidecar.dataPort),
    seen: (path) => requests.filter((seen) => seen.path === path).map((seen) => seen.request),
    async logged(requestId) {
      const client = installation.redis.client();
      let found: Record<string, string> | undefined;
      await until(async () => {
        for (const key of await client.keys('log:*')) {
          for (const [, fields] of await client.xrange(key, '-', '+')) {
            const entry: Record<string, string> = {};
            for (let at = 0; at < fields.length; at += 2) entry[fields[at] as string] = fields[at + 1] as string;
            if (entry.requestId === requestId) found = entry;
          }
        }
        return found !== undefined;
      });
      client.disconnect();
      return found as Record<string, string>;
    },
    another,
    async stop() {
      await installation.stop();
      await upstream.stop();
    },
  };
}
