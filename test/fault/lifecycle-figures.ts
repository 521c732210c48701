/**
 * What ends of processes cost under load, for figures.ts (the long form) and lifecycle.test.ts (the short one). Each
 * starts what it needs, has the history judge it, and answers what was seen.
 */
import type { Pool } from 'undici';
import { batchMax } from '../../src/accesslog/buffer.js';
import { FreshConnections } from '../support/fresh-connections.js';
import { said, two, workerPids } from '../support/workers.js';
import { type FaultRig, startFaultRig } from './fault-rig.js';
import { type Call, readLog } from './history.js';
import { pacedLoad } from './paced-load.js';

export interface LoadShape {
  readonly requests: number;
  readonly perSecond: number;
}

const atOnceMax = 400;

/** No links that can fail: for each request they cost this process more than the sidecar. */
export function direct(port: number): Promise<{ readonly port: number }> {
  return Promise.resolve({ port });
}

function failuresIn(calls: readonly Call[]): Record<string, number> {
  const failures: Record<string, number> = {};
  for (const { status, slug } of calls) {
    if (status === 200) continue;
    const outcome = status === 0 ? 'no answer' : `${status} ${slug}`;
    failures[outcome] = (failures[outcome] ?? 0) + 1;
  }
  return failures;
}

export interface SigtermFigure {
  readonly requests: number;
  readonly 'requests/s': number;
  /** By outcome; empty when every request was answered 200. */
  readonly failed: Readonly<Record<string, number>>;
  readonly 'exit codes': readonly number[];
}

/**
 * Clients that never try twice, half of the requests over a connection for each and half over kept ones; two instances
 * on one port, of which the older one is ended `ends` times, each time after another was started.
 */
export async function sigterm({ requests, perSecond }: LoadShape, ends: number): Promise<SigtermFigure> {
  const rig = await startFaultRig({ carry: direct, env: { ...two, TOLLKEEPER_LISTEN_SHARED: 'true' } });
  try {
    const port = rig.sidecars[0]?.dataPort as number;
    const fresh = new FreshConnections(port);
    const kept = rig.pool();
    const send = (number: number): Promise<Call> =>
      rig.history.call(number % 2 === 0 ? fresh : kept, '/files/a', { token: rig.token.secret });
    const load = pacedLoad(perSecond, atOnceMax, send);
    const codes: number[] = [];
    for (let end = 0; end < ends; end += 1) {
      await rig.another({ TOLLKEEPER_LISTEN: `127.0.0.1:${port}` });
      await load.more(requests / ends / 2);
      codes.push((await rig.sidecars[end]?.stop()) as number);
      await load.more(Math.max(0, (requests * (end + 1)) / ends - load.calls.length));
    }
    const calls = await load.stop();
    await rig.check({ lostEntriesMax: 0 });
    return { requests: calls.length, 'requests/s': load.rate(), failed: failuresIn(calls), 'exit codes': codes };
  } finally {
    await rig.stop();
  }
}

export interface SigkillFigure {
  readonly requests: number;
  readonly 'requests/s': number;
  readonly 'no answer': number;
  /** Requests that were answered and are not in the log. */
  readonly 'entries lost': number;
  /** How long before the kill the first of them was answered, ms by a loop clock; 0 when there are none. */
  readonly 'oldest of them, ms': number;
}

/** One of two workers is killed in the middle of keep-alive load. */
export async function sigkill({ requests, perSecond }: LoadShape, flushIntervalMs: number): Promise<SigkillFigure> {
  const rig = await startFaultRig({
    carry: direct,
    env: { ...two, TOLLKEEPER_LOG_FLUSH_INTERVAL_MS: String(flushIntervalMs) },
  });
  try {
    const [sidecar] = rig.sidecars;
    if (sidecar === undefined) throw new Error('no sidecar');
    const load = pacedLoad(perSecond, 64, () => rig.send());
    await load.more(requests / 2);
    const [victim = 0] = workerPids(sidecar);
    const killedAt = rig.history.now();
    process.kill(victim, 'SIGKILL');
    await sidecar.logged(said('worker replaced'));
    await load.more(requests / 2);
    const calls = await load.stop();
    // What came in one interval, and a batch that was being written.
    const lostEntriesMax = Math.ceil((load.rate() * flushIntervalMs) / 1000) + batchMax;
    await rig.check({ lostEntriesMax, countsMayLack: true });
    const lost = await unlogged(rig);
    const ages = lost.map(({ endedAt }) => killedAt - endedAt);
    return {
      requests: calls.length,
      'requests/s': load.rate(),
      'no answer': calls.filter(({ status }) => status === 0).length,
      'entries lost': lost.length,
      'oldest of them, ms': Math.max(0, Math.ceil(Math.max(...ages, 0))),
    };
  } finally {
    await rig.stop();
  }
}

async function unlogged(rig: FaultRig): Promise<Call[]> {
  const redis = rig.installation.redis.client();
  const { entries } = await readLog(redis);
  redis.disconnect();
  const logged = new Set(entries.map(({ requestId }) => requestId));
  return rig.history.calls.filter(({ id, status }) => status > 0 && !logged.has(id));
}

export interface RestartFigure {
  readonly requests: number;
  readonly 'requests/s': number;
  readonly restarts: number;
  readonly failed: Readonly<Record<string, number>>;
}

/** Both workers replaced again and again; `connections`: kept ones, or one for each request. */
export async function rollingRestart(
  { requests, perSecond }: LoadShape,
  connections: 'kept' | 'fresh',
): Promise<RestartFigure> {
  const rig = await startFaultRig({ carry: direct, env: two });
  try {
    const [sidecar] = rig.sidecars;
    if (sidecar === undefined) throw new Error('no sidecar');
    const requester: Pool | FreshConnections =
      connections === 'kept' ? rig.pool() : new FreshConnections(sidecar.dataPort);
    const send = (): Promise<Call> => rig.history.call(requester, '/files/a', { token: rig.token.secret });
    const load = pacedLoad(perSecond, atOnceMax, send);
    let restarts = 0;
    while (load.calls.length < requests) {
      restarts += 1;
      sidecar.signal('SIGUSR2');
      const done = (): number => sidecar.logs().filter(said('all workers were restarted')).length;
      await sidecar.logged(() => done() === restarts);
      await load.more(perSecond / 4);
    }
    const calls = await load.stop();
    await rig.check();
    return { requests: calls.length, 'requests/s': load.rate(), restarts, failed: failuresIn(calls) };
  } finally {
    await rig.stop();
  }
}
