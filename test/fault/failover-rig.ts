/**
 * What a failover test starts: a Cluster or a Sentinel group, an upstream, sidecars, tokens of several tenants, and the
 * history of all that is sent. `check()` ends each test: the history judges.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Pool } from 'undici';
import { expect } from 'vitest';
import { loadConfig } from '../../src/config/load.js';
import { minReplicas, redisSettings } from '../../src/config/require.js';
import { connectOrFail } from '../../src/redis/connect.js';
import { Store, StoreUnavailableError } from '../../src/redis/store.js';
import type { RedisConnection, RedisTarget } from '../../src/redis/target.js';
import { parseTenantDraft } from '../../src/tenant/draft.js';
import { ConflictError } from '../../src/tenant/refusal.js';
import { TenantRepository } from '../../src/tenant/repository.js';
import { type IssuedSecret, TokenRepository } from '../../src/token/repository.js';
import { call } from '../support/http-client.js';
import { type RedisServer } from '../support/redis.js';
import { tokenDraft } from '../support/repositories.js';
import { type Sidecar, startSidecar } from '../support/sidecar.js';
import { until } from '../support/until.js';
import { startStreamingUpstream } from '../support/upstream.js';
import { expectNoCrash, faultPolicy } from './fault-rig.js';
import { type Call, type Counted, countedIn, type Expectation, History, type LogContents, readLog } from './history.js';

export interface Repositories {
  readonly store: Store;
  readonly tenants: TenantRepository;
  readonly tokens: TokenRepository;
}

export interface FailoverRig {
  readonly env: Readonly<Record<string, string>>;
  readonly history: History;
  readonly sidecars: readonly Sidecar[];
  readonly repositories: Repositories;
  /** A new token of a tenant that is made when there is none. `tokens`: of {@link open}. */
  token(tenant: string, fields?: object, tokens?: TokenRepository): Promise<IssuedSecret>;
  /** Revokes, again until it is confirmed, as who revokes is told to: on a slow machine replicas may be late. */
  revoke(id: string, tokens?: TokenRepository): Promise<void>;
  /** Sends one request with a token to a sidecar (the first). */
  send(secret: string, sidecar?: number, path?: string): Promise<Call>;
  /** Sends requests over all sidecars, or to one, `atOnce` at a time, until it is stopped. */
  keepSending(secret: string, atOnce: number, sidecar?: number): { stop(): Promise<readonly Call[]> };
  /** Sends until one request is answered `status`; answers how long that took, ms. */
  untilAnswered(secret: string, status: number): Promise<number>;
  readiness(sidecar?: number): Promise<{ readonly status: number; readonly text: string }>;
  /** Repositories on a connection of their own, as a command has them. Closed with the rig. */
  open(): Promise<Repositories>;
  another(env?: Readonly<Record<string, string>>): Promise<Sidecar>;
  /** Waits until all is written, stops the sidecars and expects the history to be without a fault. */
  check(expected?: Expectation): Promise<void>;
  stop(): Promise<void>;
}

/** `servers` hold the log; `env` names the Redis. */
export async function startFailoverRig(
  env: Readonly<Record<string, string>>,
  servers: readonly RedisServer[],
  sidecarCount = 1,
): Promise<FailoverRig> {
  const history = new History();
  const upstream = await startStreamingUpstream((request, response) => {
    history.arrived(String(request.headers['x-request-id']));
    response.end('ok');
  });
  const dir = mkdtempSync(join(tmpdir(), 'tk-failover-'));
  const policyPath = join(dir, 'policy.yaml');
  writeFileSync(policyPath, faultPolicy);
  const whole = {
    ...env,
    TOLLKEEPER_UPSTREAM: upstream.url,
    TOLLKEEPER_POLICY: policyPath,
    TOLLKEEPER_MASTER_KEY: Buffer.alloc(32, 7).toString('base64'),
  };
  const config = loadConfig({ env: whole });
  const opened: Store[] = [];
  const open = async (): Promise<Repositories> => {
    const store = new Store(await connected(redisSettings(config)), { redisMinReplicas: minReplicas(config) });
    opened.push(store);
    return {
      store,
      tenants: new TenantRepository(store),
      tokens: new TokenRepository(store, { tokenPrefix: 'tk_live' }),
    };
  };
  const repositories = await open();
  const known = new Set<string>();
  const issued = new Set<string>();
  let isOver = false;
  const sidecars: Sidecar[] = [];
  const pools: Pool[] = [];
  const another = async (extra: Readonly<Record<string, string>> = {}): Promise<Sidecar> => {
    const sidecar = await startSidecar({ env: { ...whole, ...extra } });
    sidecars.push(sidecar);
    pools.push(new Pool(sidecar.dataUrl, { connections: 64, pipelining: 1, headersTimeout: 60_000 }));
    return sidecar;
  };
  const token = async (tenant: string, fields: object = {}, tokens = repositories.tokens): Promise<IssuedSecret> => {
    if (!known.has(tenant)) {
      const { tenants } = tokens === repositories.tokens ? repositories : await open();
      await until(async () => {
        try {
          await tenants.create(parseTenantDraft({ slug: tenant, name: tenant, maxTokens: 1000 }));
          return true;
        } catch (error) {
          // It is there: made, and not confirmed, the time before.
          if (error instanceof ConflictError) return true;
          if (error instanceof StoreUnavailableError) return false;
          throw error;
        }
      });
      known.add(tenant);
    }
    const draft = tokenDraft({ scopes: ['files'], rateLimit: { limit: 1_000_000 }, ...fields });
    let created: IssuedSecret | undefined;
    // On a machine that stands still for a second Sentinels elect without a fault. What is set up is then asked for again.
    await until(async () => {
      created = await tokens.create(tenant, draft).catch((error: unknown) => {
        if (error instanceof StoreUnavailableError) return undefined;
        throw error;
      });
      return created !== undefined;
    });
    if (created === undefined) throw new Error('there is no token');
    issued.add(created.record.id);
    return created;
  };
  // The first tenant makes it an installation; sidecars are ready when they listen.
  const installed = await repositories.tenants.list({ page: 1, perPage: 100 });
  for (const { slug } of installed.records) known.add(slug);
  await token('first');
  await Promise.all(Array.from({ length: sidecarCount }, () => another()));
  const send = (secret: string, sidecar = 0, path = '/files/a'): Promise<Call> =>
    history.call(pools[sidecar % pools.length] as Pool, path, { token: secret });

  return {
    env: whole,
    history,
    sidecars,
    repositories,
    token,
    revoke: (id, tokens = repositories.tokens) =>
      until(async () => {
        try {
          await tokens.revoke(id);
          return true;
        } catch (error) {
          if (error instanceof StoreUnavailableError) return false;
          throw error;
        }
      }),
    send,
    keepSending(secret, atOnce, sidecar) {
      const calls: Call[] = [];
      let going = true;
      let number = 0;
      const sender = async (): Promise<void> => {
        while (going && !isOver) {
          const answer = await send(secret, sidecar ?? number++);
          calls.push(answer);
          // A client that was refused waits a little, as `Retry-After` asks: a flood of refusals would load the machine.
          if (answer.status === 503) await delay(20);
        }
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
    async untilAnswered(secret, status) {
      const startedAtMs = performance.now();
      await until(async () => (await send(secret)).status === status);
      return performance.now() - startedAtMs;
    },
    async readiness(sidecar = 0) {
      const { status, text } = await call(`${sidecars[sidecar]?.adminUrl}/readyz`);
      return { status, text };
    },
    open,
    another,
    async check(expected = {}) {
      await Promise.all(pools.map((pool) => pool.close()));
      expectNoCrash(sidecars);
      const counted: Counted[] = [];
      for (const sidecar of sidecars) {
        let exposition = '';
        await until(async () => {
          exposition = (await call(`${sidecar.adminUrl}/metrics`)).text;
          return (
            /^tollkeeper_log_queue_entries 0$/m.test(exposition) &&
            /^tollkeeper_requests_in_flight 0$/m.test(exposition)
          );
        });
        counted.push(countedIn(exposition));
        expect(await sidecar.stop(), sidecar.output().slice(-2000)).toBe(0);
      }
      const sum = (key: keyof Counted): number => counted.reduce((total, each) => total + each[key], 0);
      const all = {
        requests: sum('requests'),
        written: sum('written'),
        dropped: sum('dropped'),
        failed: sum('failed'),
      };
      const log = await readLogs(servers);
      // A Cluster may have served another test before.
      const own = history.calls[0]?.id.replace(/-.*$/, '-') ?? '';
      const entries = log.entries.filter(({ requestId }) => requestId.startsWith(own));
      const usage = new Map([...log.usage].filter(([id]) => issued.has(id)));
      const faults = history.faults(all, { ...log, entries, usage }, expected);
      expect(faults.slice(0, 20)).toEqual([]);
    },
    async stop() {
      isOver = true;
      await Promise.all(pools.map((pool) => pool.destroy()));
      await Promise.all(sidecars.map((sidecar) => sidecar.kill()));
      await Promise.all(opened.map((store) => store.close()));
      await upstream.stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** A command gives up after 3 s; a machine that stands still may need several. */
async function connected(target: RedisTarget): Promise<RedisConnection> {
  for (let attempts = 10; ; attempts -= 1) {
    try {
      return await connectOrFail(target);
    } catch (error) {
      if (attempts === 1) throw error;
    }
  }
}

/** What stands in the log of every primary. */
async function readLogs(servers: readonly RedisServer[]): Promise<LogContents> {
  const contents: LogContents[] = [];
  for (const server of servers) {
    const client = server.client();
    if (/role:master/.test(await client.info('replication'))) contents.push(await readLog(client));
    client.disconnect();
  }
  return {
    entries: contents.flatMap(({ entries }) => entries),
    missing: contents.reduce((sum, { missing }) => sum + missing, 0),
    usage: new Map(contents.flatMap(({ usage }) => [...usage])),
  };
}
