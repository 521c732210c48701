/**
 * What every fault test starts: a real Redis and an upstream, each behind a proxy that can fail, sidecars in between,
 * a token, and the history of all that is sent. `check()` ends each test: it stops the sidecars and lets the history
 * judge.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Pool } from 'undici';
import { expect } from 'vitest';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.js';
import { samplesOf } from '../support/exposition.js';
import { call } from '../support/http-client.js';
import { type Installation, type IssuedToken, startInstallation } from '../support/installation.js';
import { startLoopClock } from '../support/loop-clock.js';
import type { RedisOptions } from '../support/redis.js';
import type { Sidecar } from '../support/sidecar.js';
import { until } from '../support/until.js';
import { startStreamingUpstream, type Upstream } from '../support/upstream.js';
import { type Call, type CallOptions, type Counted, countedIn, type Expectation, History, readLog } from './history.js';

export const faultPolicy = `
policy:
  default: deny
  scopes: [files, secrets]
  routes:
    - { methods: [GET, HEAD, PUT, POST], path: "/files/{name}", scope: files }
    - { methods: [GET], path: "/known/{name}", scope: files, onStoreOutage: serve-known }
    - { methods: [GET], path: "/secrets/{name}", scope: secrets }
    - { methods: [GET], path: "/open/{name}", public: true }
`;

/** Answers a request of the upstream; its id is recorded already. */
export type FaultUpstream = (request: IncomingMessage, response: ServerResponse) => void;

export interface FaultRigOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly redis?: RedisOptions;
  readonly policy?: string;
  readonly upstream?: FaultUpstream;
  /** Flags of the token, after its scope. */
  readonly token?: readonly string[];
  readonly sidecars?: number;
  /** Limit of open files of each sidecar. */
  readonly openFilesMax?: number;
  /** Carries the connections to a port, Redis' and then the upstream's, instead of the rig's own links. */
  readonly carry?: (port: number) => Promise<{ readonly port: number }>;
}

export interface FaultRig {
  readonly installation: Installation;
  readonly redisLink: FaultProxy;
  readonly upstreamLink: FaultProxy;
  readonly history: History;
  readonly token: IssuedToken;
  readonly sidecars: readonly Sidecar[];
  /** Connections to a sidecar (the first), for {@link History.call}. */
  pool(sidecar?: number): Pool;
  /** Sends one request with the rig's token to a sidecar (the first). */
  send(path?: string, options?: CallOptions, sidecar?: number): Promise<Call>;
  /** Sends `count` requests, spread over the sidecars, `atOnce` at a time. */
  burst(count: number, path?: string, atOnce?: number): Promise<readonly Call[]>;
  /** Sends requests, `atOnce` at a time, until it is stopped. */
  keepSending(atOnce: number, path?: string): { stop(): Promise<readonly Call[]> };
  /** Sends until one request is answered `status`; answers how long that took, ms by a {@link LoopClock}. */
  untilAnswered(status: number, path?: string): Promise<number>;
  readiness(sidecar?: number): Promise<{ readonly status: number; readonly text: string }>;
  metrics(sidecar?: number): Promise<string>;
  /** Starts another sidecar like the first. */
  another(env?: Readonly<Record<string, string>>): Promise<Sidecar>;
  /** Waits until all is written, stops the sidecars and expects the history to be without a fault. */
  check(expected?: Expectation): Promise<void>;
  stop(): Promise<void>;
}

/** Starts everything. The deadline of Redis is the default one (100 ms) unless `env` says otherwise. */
export async function startFaultRig(options: FaultRigOptions = {}): Promise<FaultRig> {
  const history = new History();
  const respond = options.upstream ?? ((_, response) => response.end('ok'));
  const upstream: Upstream = await startStreamingUpstream((request, response) => {
    history.arrived(String(request.headers['x-request-id']));
    request.on('error', () => {});
    response.on('error', () => {});
    respond(request, response);
  });
  const installation = await startInstallation({
    policy: options.policy ?? faultPolicy,
    redis: { tcp: true, ...options.redis },
  });
  const redisLink = await startFaultProxy({ port: installation.redis.port });
  const upstreamLink = await startFaultProxy({ port: upstream.port });
  const redisAt = (await options.carry?.(installation.redis.port)) ?? redisLink;
  const upstreamAt = (await options.carry?.(upstream.port)) ?? upstreamLink;
  await installation.tenant('acme');
  const flags = options.token ?? ['--limit', '1000000'];
  const token = await installation.token('acme', '--scopes', 'files', ...flags);
  const sidecars: Sidecar[] = [];
  const pools: Pool[] = [];

  const another = async (env: Readonly<Record<string, string>> = {}): Promise<Sidecar> => {
    const sidecar = await installation.sidecar({
      ...(options.openFilesMax === undefined ? {} : { openFilesMax: options.openFilesMax }),
      env: {
        TOLLKEEPER_REDIS_URL: `redis://127.0.0.1:${redisAt.port}`,
        TOLLKEEPER_UPSTREAM: `http://127.0.0.1:${upstreamAt.port}`,
        TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '100',
        ...options.env,
        ...env,
      },
    });
    sidecars.push(sidecar);
    pools.push(new Pool(sidecar.dataUrl, { connections: 256, pipelining: 1, headersTimeout: 60_000 }));
    return sidecar;
  };
  for (let count = 0; count < (options.sidecars ?? 1); count += 1) await another();

  const send = (path = '/files/a', callOptions: CallOptions = {}, sidecar = 0): Promise<Call> =>
    history.call(pools[sidecar] as Pool, path, { token: token.secret, ...callOptions });
  const sendTo = (number: number, path?: string): Promise<Call> => send(path, {}, number % sidecars.length);

  const scrape = (sidecar: Sidecar): Promise<string> =>
    call(`${sidecar.adminUrl}/metrics`).then((answer) => answer.text);

  return {
    installation,
    redisLink,
    upstreamLink,
    history,
    token,
    sidecars,
    pool: (sidecar = 0) => pools[sidecar] as Pool,
    send,
    async burst(count, path, atOnce = count) {
      const calls: Call[] = [];
      let next = 0;
      const sender = async (): Promise<void> => {
        for (let number = next++; number < count; number = next++) calls.push(await sendTo(number, path));
      };
      await Promise.all(Array.from({ length: Math.min(atOnce, count) }, sender));
      return calls;
    },
    keepSending(atOnce, path) {
      const calls: Call[] = [];
      let going = true;
      let number = 0;
      const sender = async (): Promise<void> => {
        while (going) calls.push(await sendTo(number++, path));
      };
      const senders = Array.from({ length: atOnce }, sender);
      return {
        async stop() {
          going = false;
          await Promise.all(senders);
          return calls;
        },
      };
    },
    async untilAnswered(status, path) {
      const clock = startLoopClock();
      await until(async () => (await send(path)).status === status);
      const waitedMs = clock.now();
      clock.stop();
      return waitedMs;
    },
    async readiness(sidecar = 0) {
      const { status, text } = await call(`${sidecars[sidecar]?.adminUrl}/readyz`);
      return { status, text };
    },
    metrics: (sidecar = 0) => scrape(sidecars[sidecar] as Sidecar),
    another,
    async check(expected = {}) {
      await Promise.all(pools.map((pool) => pool.close()));
      expectNoCrash(sidecars);
      const running = sidecars.filter((sidecar) => sidecar.alive());
      const counted: Counted[] = [];
      for (const sidecar of running) {
        let exposition = '';
        await until(async () => {
          exposition = await scrape(sidecar);
          return (
            /^tollkeeper_log_queue_entries 0$/m.test(exposition) &&
            /^tollkeeper_requests_in_flight 0$/m.test(exposition)
          );
        });
        counted.push(countedIn(exposition));
        if (expected.countsMayLack !== true) {
          expect(samplesOf(exposition).get('tollkeeper_worker_events_total{event="died"}') ?? 0).toBe(0);
        }
        expect(await sidecar.stop()).toBe(0);
      }
      const redis = installation.redis.client();
      const log = await readLog(redis);
      redis.disconnect();
      const all = running.length === sidecars.length && expected.countsMayLack !== true ? sumOf(counted) : undefined;
      expect(history.faults(all, log, expected).slice(0, 20)).toEqual([]);
    },
    async stop() {
      await Promise.all(pools.map((pool) => pool.destroy()));
      await installation.stop();
      await Promise.all([redisLink.stop(), upstreamLink.stop(), upstream.stop()]);
    },
  };
}

/** A process that ends by itself is a fault, whatever the history says; what it printed tells why. */
export function expectNoCrash(sidecars: readonly Sidecar[]): void {
  const crashed = sidecars.filter((sidecar) => sidecar.crashed());
  expect(crashed.map((sidecar) => sidecar.output().slice(-4000))).toEqual([]);
}

function sumOf(counted: readonly Counted[]): Counted {
  const sum = (key: keyof Counted): number => counted.reduce((total, each) => total + each[key], 0);
  return { requests: sum('requests'), written: sum('written'), dropped: sum('dropped'), failed: sum('failed') };
}
