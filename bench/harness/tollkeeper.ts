/** A built Tollkeeper as the measured process, and what it must have done with Redis when the run is over. */
import { mainScript } from '../../test/support/cli.js';
import { type NodeChild, startNode } from './node-child.js';
import type { Stage, Store } from './stage.js';

export interface TollkeeperOptions {
  /** Write a CPU profile into this folder at the end. */
  readonly profileDir: string | undefined;
  readonly upstream: string;
  readonly env?: Readonly<Record<string, string>>;
}

const policyText = `
default: deny
scopes: [products:read]
routes:
  - { methods: [GET, HEAD], path: "/api/v1/products/{id}", scope: products:read }
  - { methods: [POST], path: /api/v1/uploads, scope: products:read }
`;

/** Starts `tollkeeper serve` with the access log and metrics on, everything else at its default. */
export async function startTollkeeper(stage: Stage, options: TollkeeperOptions): Promise<NodeChild> {
  const store = await stage.store();
  const profiling =
    options.profileDir === undefined
      ? []
      : ['--cpu-prof', '--cpu-prof-interval', '500', '--cpu-prof-dir', options.profileDir];
  return startNode([...profiling, mainScript, 'serve'], {
    core: stage.cores.subject,
    planes: ['data', 'admin'],
    env: {
      TOLLKEEPER_LISTEN: '127.0.0.1:0',
      TOLLKEEPER_VERIFY_LISTEN: '127.0.0.1:0',
      TOLLKEEPER_ADMIN_LISTEN: '127.0.0.1:0',
      TOLLKEEPER_REDIS_URL: store.url,
      TOLLKEEPER_UPSTREAM: options.upstream,
      TOLLKEEPER_POLICY: stage.file('policy.yaml', policyText),
      TOLLKEEPER_LOG_LEVEL: 'info',
      // Nothing trimmed: every entry is counted afterwards.
      TOLLKEEPER_LOG_STREAM_MAX_ENTRIES: '1000000000',
      ...options.env,
    },
  });
}

/** Commands of Redis: calls of scripts (what a request costs on the wire), and all, those inside of scripts included. */
export interface RedisCommands {
  readonly scriptCalls: number;
  readonly all: number;
}

/** Commands since the start of the server. */
export async function countCommands({ redis }: Store): Promise<RedisCommands> {
  const stats = await redis.info('commandstats');
  let scriptCalls = 0;
  let all = 0;
  for (const [, name, calls] of stats.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)) {
    all += Number(calls);
    if (name === 'evalsha' || name === 'eval') scriptCalls += Number(calls);
  }
  return { scriptCalls, all };
}

/** Forgets the access log, so that every run begins with the same Redis. */
export async function clearLog({ redis }: Store): Promise<void> {
  for (const key of await redis.keys('log:*')) await redis.unlink(key);
}

/** Waits until the access log holds `expected` entries, at most `deadlineMs`; answers how many it holds. */
export async function countLog({ redis }: Store, expected: number, deadlineMs: number): Promise<number> {
  const until = performance.now() + deadlineMs;
  for (;;) {
    let entries = 0;
    for (const key of await redis.keys('log:*')) entries += await redis.xlen(key);
    if (entries >= expected || performance.now() >= until) return entries;
    await new Promise((resolve) => {
      setTimeout(resolve, 50);
    });
  }
}

/** Sum of `tollkeeper_requests_total` as Tollkeeper exports it. */
export async function countedRequests(tollkeeper: NodeChild): Promise<number> {
  const text = await (await fetch(`${tollkeeper.origin('admin')}/metrics`)).text();
  let total = 0;
  for (const [, value] of text.matchAll(/^tollkeeper_requests_total(?:\{[^}]*\})? (\d+)/gm)) total += Number(value);
  return total;
}
