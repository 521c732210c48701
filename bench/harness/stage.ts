/**
 * What all scenarios share: one upstream, one Redis with tenants and tokens, the cores. Redis and tokens are made when
 * the first scenario asks for them, and everything ends with `close`.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { runJson } from '../../test/support/cli.js';
import { type RedisServer, startRedis } from '../../test/support/redis.js';
import type { SigningToken } from '../load/requests.js';
import { type CorePlan, pin, planCores } from './cores.js';
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
  #server: RedisServer | undefined;

  constructor() {
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

  /** Writes a file for a scenario and answers its path. */
  file(name: string, content: string): string {
    const path = join(this.dir, name);
    writeFileSync(path, content);
    return path;
  }

  async close(): Promise<void> {
    await Promise.allSettled([this.#server?.stop(), this.#upstream?.then((child) => child.stop())]);
  }

  async #makeStore(): Promise<Store> {
    this.#server = await startRedis({ tcp: true, dir: join(this.dir, 'redis') });
    const { url, pid } = this.#server;
    pin(pid, this.cores.redis);
    const env = { TOLLKEEPER_REDIS_URL: url, TOLLKEEPER_MASTER_KEY: masterKey };
    const unlimited: string[] = [];
    const tight: string[] = [];
    const signing: SigningToken[] = [];
    for (const tenant of tenants) {
      await runJson(['tenant', 'create', tenant, '--name', tenant], env);
      const create = async (limit: number, ...more: string[]): Promise<SigningToken> => {
        const about = ['--tenant', tenant, '--name', 'bench', '--scopes', 'products:read', '--window', '60'];
        const { token, secret } = await runJson<{ token: { id: string }; secret: string }>(
          ['token', 'create', ...about, '--limit', String(limit), ...more],
          env,
        );
        return { id: token.id, secret };
      };
      for (let each = 0; each < unlimitedCount; each++) unlimited.push((await create(neverReached)).secret);
      for (let each = 0; each < tightCount; each++) tight.push((await create(tightLimit)).secret);
      for (let each = 0; each < signingCount; each++) signing.push(await create(neverReached, '--mode', 'hmac'));
    }
    return { url, pid, redis: this.#server.client(), unlimited, tight, signing };
  }
}
