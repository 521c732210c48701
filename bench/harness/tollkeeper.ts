/** A built Tollkeeper as the measured process, and what it must have done with Redis when the run is over. */
import { type NodeChild, startNode } from './node-child.js';
import { masterKey, type Stage, type Store } from './stage.js';

export interface TollkeeperOptions {
  /** Write a CPU profile into this folder at the end. */
  readonly profileDir: string | undefined;
  readonly upstream: string;
  /** The stage's own when absent. */
  readonly store?: Store;
  readonly env?: Readonly<Record<string, string>>;
}

const policyText = `
default: deny
scopes: [products:read]
routes:
  - { methods: [GET, HEAD], path: "/api/v1/products/{id}", scope: products:read }
  - { methods: [POST], path: "/api/v1/products/{id}", scope: products:read }
  - { methods: [POST], path: /api/v1/uploads, scope: products:read }
`;

/** Starts `tollkeeper serve` with the access log and metrics on, everything else at its default. */
export async function startTollkeeper(stage: Stage, options: TollkeeperOptions): Promise<NodeChild> {
  const store = options.store ?? (await stage.store());
  const profiling =
    options.profileDir === undefined
      ? []
      : ['--cpu-prof', '--cpu-prof-interval', '500', '--cpu-prof-dir', options.profileDir];
  return startNode([...profiling, stage.program, 'serve'], {
    core: stage.cores.subject,
    planes: ['data', 'verify', 'admin'],
    env: {
      TOLLKEEPER_LISTEN: '127.0.0.1:0',
      TOLLKEEPER_VERIFY_LISTEN: '127.0.0.1:0',
      TOLLKEEPER_ADMIN_LISTEN: '127.0.0.1:0',
      TOLLKEEPER_REDIS_URL: store.url,
      TOLLKEEPER_UPSTREAM: options.upstream,
      TOLLKEEPER_POLICY: stage.file('policy.yaml', policyText),
      TOLLKEEPER_MASTER_KEY: masterKey,
      TOLLKEEPER_LOG_LEVEL: 'info',
      // One process on one core, as the peers have; a profile is of the process that is started.
      TOLLKEEPER_WORKERS: '1',
      // Redis shares its core with the load: it is not to be taken for an outage when it has to wait for it.
      TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '2000',
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

/** Forgets the access log and the signatures that were used, so that every run begins with the same Redis. */
export async function clearTraces({ redis }: Store): Promise<void> {
  for (const match of ['log:*', 'tk:replay:*']) {
    for await (const found of redis.scanStream({ match, count: 10_000 })) {
      const names = found as string[];
      if (names.length > 0) await redis.unlink(...names);
    }
  }
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

export interface ExportedMetrics {
  /** Sum of `tollkeeper_requests_total`. */
  readonly requests: number;
  /** Delay of the event loop since the start, 99th percentile, ms. */
  readonly loopDelayMs: number;
  /** Calls of the admission script since the start. */
  readonly admissionBatches: number;
}

/** prom-client measures the time between ticks of this length, and says how long they took (eventLoopLag.js, 15.1.3). */
const loopTickMs = 10;

/** What Tollkeeper exports on `/metrics`. */
export async function exportedMetrics(tollkeeper: NodeChild): Promise<ExportedMetrics> {
  const text = await (await fetch(`${tollkeeper.origin('admin')}/metrics`)).text();
  let requests = 0;
  for (const [, value] of text.matchAll(/^tollkeeper_requests_total(?:\{[^}]*\})? (\d+)/gm)) requests += Number(value);
  const [, tick = '0'] = /^nodejs_eventloop_lag_p99_seconds(?:\{[^}]*\})? (\S+)/m.exec(text) ?? [];
  const [, batches = ''] = /^tollkeeper_admission_batch_size_count(?:\{[^}]*\})? (\d+)/m.exec(text) ?? [];
  if (batches === '') throw new Error('the metrics say nothing of admission batches');
  return { requests, loopDelayMs: Math.max(0, Number(tick) * 1000 - loopTickMs), admissionBatches: Number(batches) };
}
