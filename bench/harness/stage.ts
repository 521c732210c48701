/**
 * What all scenarios share: one upstream, one Redis with tenants and tokens, the cores. Redis and tokens are made when
 * the first scenario asks for them, and everything ends with `close`.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { mainScript, runJson } from '../../test/support/cli.js';
import { type RedisServer, startRedis } from '../../test/support/redis.js';
import type { SigningToken } from '../load/requests.js';
import { type CorePlan, pin, planCores } from './cores.js';
import { fillWithTokens } from './many-store.js';
import { type NodeChild, scriptArgs, startNode } from './node-child.js';

export interface Store {
  readonly url: string;
  readonly pid: number;
  readonly redis: Redis;
  /** Plaintext tokens whose limit is never reached. */
  readonly unlimited: readonly string[];
  /** Plaintext tokens with {@link tightLimit}. */
  readonly tight: readonly string[];
  /** Tokens in mode hmac whose limit is never reached. */
  readonly signing: readonly SigningToken[];
}

export interface ManyTokens {
  readonly count: number;
  /** Memory of Redis: record and place in its tenant's index, before the first call. */
  readonly bytesPerToken: number;
  readonly store: Store;
}

const manyTokensCount = 1_000_000;

/** Calls per minute of a `tight` token. */
export const tightLimit = 5;

/** What seals the secrets of the `signing` tokens. */
export const masterKey = randomBytes(32).toString('hex');

const tenants = ['acme', 'globex'];
const neverReached = 1_000_000_000;
/** Tokens of each tenant by kind. */
const unlimitedCount = 8;
const tightCount = 2;
const signingCount = 8;

export class Stage {
  readonly cores: CorePlan = planCores();
  /** Folder of files that scenarios and Redis need; removed when the process ends. */
  readonly dir = mkdtempSync(join(tmpdir(), 'tk-bench-'));
  #upstream: Promise<NodeChild> | undefined;
  #store: Promise<Store> | undefined;
  #leased: Promise<readonly string[]> | undefined;
  #many: Promise<ManyTokens> | undefined;
  readonly #servers: RedisServer[] = [];

  /** Entry point of the Tollkeeper that is measured, and that makes the tenants and tokens. */
  readonly program: string;

  constructor(program = mainScript) {
    this.program = program;
    // Also when a signal ends the benchmark.
    process.once('exit', () => rmSync(this.dir, { recursive: true, force: true }));
  }

  /** The upstream of every proxy. */
  upstream(): Promise<NodeChild> {
    const script = new URL('answering-server.ts', import.meta.url);
    this.#upstream ??= startNode(scriptArgs(script, 'upstream'), { core: this.cores.upstream, planes: ['data'] });
    return this.#upstream;
  }

  /** Redis with tenants and tokens, made by the command line as a user would. */
  store(): Promise<Store> {
    this.#store ??= this.#makeStore();
    return this.#store;
  }

  /** Plaintext tokens as the `unlimited` ones of the store, but leased while they are hot. */
  leased(): Promise<readonly string[]> {
    this.#leased ??= this.#makeLeased();
    return this.#leased;
  }

  /** A Redis of its own with a million tokens; making it takes half a minute. */
  manyTokens(): Promise<ManyTokens> {
    this.#many ??= this.#makeManyTokens();
    return this.#many;
  }

  /** What there is already: asking makes nothing. */
  get made(): { readonly store: Promise<Store> | undefined; readonly many: Promise<ManyTokens> | undefined } {
    return { store: this.#store, many: this.#many };
  }

  /** Writes a file for a scenario and answers its path. */
  file(name: string, content: string): string {
    const path = join(this.dir, name);
    writeFileSync(path, content);
    return path;
  }

  async close(): Promise<void> {
    const servers = this.#servers.map((server) => server.stop());
    await Promise.allSettled([...servers, this.#upstream?.then((child) => child.stop())]);
  }

  async #makeStore(): Promise<Store> {
    const server = await this.#startRedis('redis');
    const { url, pid } = server;
    const env = { TOLLKEEPER_REDIS_URL: url, TOLLKEEPER_MASTER_KEY: masterKey };
    const unlimited: string[] = [];
    const tight: string[] = [];
    const signing: SigningToken[] = [];
    for (const tenant of tenants) {
      await runJson(['tenant', 'create', tenant, '--name', tenant, '--max-tokens', '50'], env, this.program);
      const create = (limit: number, ...more: string[]): Promise<SigningToken> =>
        this.#createToken(env, tenant, limit, ...more);
      for (let each = 0; each < unlimitedCount; each++) unlimited.push((await create(neverReached)).secret);
      for (let each = 0; each < tightCount; each++) tight.push((await create(tightLimit)).secret);
      for (let each = 0; each < signingCount; each++) signing.push(await create(neverReached, '--mode', 'hmac'));
    }
    return { url, pid, redis: server.client(), unlimited, tight, signing };
  }

  async #makeLeased(): Promise<readonly string[]> {
    const { url } = await this.store();
    const made: string[] = [];
    for (const tenant of tenants) {
      for (let each = 0; each < unlimitedCount; each++) {
        made.push((await this.#createToken({ TOLLKEEPER_REDIS_URL: url }, tenant, neverReached, '--lease')).secret);
      }
    }
    return made;
  }

  async #createToken(
    env: Readonly<Record<string, string>>,
    tenant: string,
    limit: number,
    ...more: string[]
  ): Promise<SigningToken> {
    const about = ['--tenant', tenant, '--name', 'bench', '--scopes', 'products:read', '--window', '60'];
    const { token, secret } = await runJson<{ token: { id: string }; secret: string }>(
      ['token', 'create', ...about, '--limit', String(limit), ...more],
      env,
      this.program,
    );
    return { id: token.id, secret };
  }

  async #makeManyTokens(): Promise<ManyTokens> {
    const server = await this.#startRedis('redis-many');
    const redis = server.client();
    const before = await usedMemory(redis);
    await fillWithTokens(server, manyTokensCount, neverReached, this.program);
    const bytesPerToken = ((await usedMemory(redis)) - before) / manyTokensCount;
    const store = { url: server.url, pid: server.pid, redis, unlimited: [], tight: [], signing: [] };
    return { count: manyTokensCount, bytesPerToken, store };
  }

  async #startRedis(name: string): Promise<RedisServer> {
    const server = await startRedis({ tcp: true, dir: join(this.dir, name) });
    this.#servers.push(server);
    pin(server.pid, this.cores.redis);
    return server;
  }
}

async function usedMemory(redis: Redis): Promise<number> {
  return Number(/^used_memory:(\d+)/m.exec(await redis.info('memory'))?.[1]);
}
