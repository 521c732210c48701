/**
 * Measures the figures that docs/failure-modes.md states, on the machine it runs on: `npm run figures -- [NAME ...]`.
 * Prints one JSON line a figure; exit code 1 when an identity did not hold. Nothing else should run meanwhile.
 */
import { signRequest } from '../../src/sign/sign.js';
import { inMigratingNamespace } from '../support/network-namespace.js';
import { until } from '../support/until.js';
import { clockJumps, clockSkew } from './clock-figures.js';
import { startFaultRig, type FaultRig, type FaultRigOptions } from './fault-rig.js';
import type { Call } from './history.js';
import { aborts, hostileConnections } from './hostile-figures.js';
import { rollingRestart, sigkill, sigterm } from './lifecycle-figures.js';
import { memory } from './memory-figures.js';
import { timing } from './timing-figures.js';
import { revoke } from './token-figures.js';

const callers = 32;

function percentile(sorted: readonly number[], share: number): number {
  return Math.round((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0) * 10) / 10;
}

function times(calls: readonly Call[]): Record<string, number> {
  const sorted = calls.map(({ tookMs }) => tookMs).sort((one, other) => one - other);
  return { p50: percentile(sorted, 0.5), p99: percentile(sorted, 0.99), max: percentile(sorted, 1) };
}

async function withRig<T>(
  options: FaultRigOptions,
  measure: (rig: FaultRig) => Promise<T>,
  isJudged = true,
): Promise<T> {
  const rig = await startFaultRig(options);
  try {
    const measured = await measure(rig);
    if (isJudged) await rig.check();
    return measured;
  } finally {
    await rig.stop();
  }
}

const deadlineMs = 100;

/** Load, then Redis away for 5 s, then back: answers meanwhile, and the first 200 after. */
function outage(begin: (rig: FaultRig) => Promise<void>, end: (rig: FaultRig) => Promise<void>): Promise<object> {
  return withRig({ redis: { appendonly: true } }, async (rig) => {
    await rig.burst(5000, '/files/a', callers);
    const load = rig.keepSending(callers);
    await begin(rig);
    const fromMs = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 5000));
    const untilMs = performance.now();
    await end(rig);
    const backAtMs = performance.now();
    await until(() => rig.history.calls.some(({ status, startedAtMs }) => status === 200 && startedAtMs > backAtMs));
    const calls = await load.stop();
    const meanwhile = calls.filter(({ startedAtMs }) => startedAtMs >= fromMs && startedAtMs < untilMs);
    const first = calls.find(({ status, startedAtMs, tookMs }) => status === 200 && startedAtMs + tookMs > backAtMs);
    return {
      meanwhile: meanwhile.length,
      answered: meanwhile.filter(({ status }) => status > 0).length,
      'ms of answers meanwhile': times(meanwhile),
      'target p99': deadlineMs + 50,
      'first 200 after the return, ms': Math.round((first?.startedAtMs ?? 0) + (first?.tookMs ?? 0) - backAtMs),
      outcomes: rig.history.outcomes(),
    };
  });
}

/** 4 sidecars, 100,000 calls, a limit far below, and replies that are lost. */
function rateLimit(): Promise<object> {
  const limit = 5000;
  const options = { sidecars: 4, token: ['--limit', String(limit), '--window', '3600'] };
  return withRig({ ...options, env: { TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '2000' } }, async (rig) => {
    const lost = 20;
    rig.redisLink.swallowReplies(lost, 'evalsha');
    await rig.burst(100_000, '/files/a', callers * 2);
    const admitted = rig.history.calls.filter(({ status }) => status === 200).length;
    return {
      calls: 100_000,
      limit,
      admitted,
      'replies lost': rig.redisLink.swallowed,
      outcomes: rig.history.outcomes(),
    };
  });
}

/** Every signature once more, at another of 4 sidecars. */
function replay(): Promise<object> {
  return withRig({ sidecars: 4, env: { TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '2000' } }, async (rig) => {
    const signer = await rig.installation.token('acme', '--scopes', 'files', '--mode', 'hmac', '--limit', '1000000');
    let first = 0;
    let again = 0;
    let number = 0;
    const worker = async (): Promise<void> => {
      while (number < 10_000) {
        const own = number++;
        const { headers } = signRequest({ secret: signer.secret, method: 'GET', url: '/files/a' });
        const [one, other] = await Promise.all([
          rig.history.call(rig.pool(own % 4), '/files/a', { headers }),
          rig.history.call(rig.pool((own + 1) % 4), '/files/a', { headers }),
        ]);
        const accepted = [one, other].filter(({ status }) => status === 200).length;
        first += Math.min(accepted, 1);
        again += Math.max(0, accepted - 1);
      }
    };
    await Promise.all(Array.from({ length: callers }, worker));
    return { signatures: 10_000, 'accepted once': first, 'accepted twice': again };
  });
}

const figures: Readonly<Record<string, () => Promise<object>>> = {
  'redis-killed': () =>
    outage(
      (rig) => rig.installation.redis.kill(),
      (rig) => rig.installation.redis.restart({ keepData: true }),
    ),
  'redis-frozen': () =>
    outage(
      (rig) => Promise.resolve(rig.installation.redis.freeze()),
      (rig) => Promise.resolve(rig.installation.redis.thaw()),
    ),
  aborts: () => aborts(10_000, 4),
  'hostile-connections': () => hostileConnections(10_000, 500),
  'rate-limit': rateLimit,
  replay,
  timing: () => timing(100_000),
  revoke: () => revoke(10_000),
  memory,
  'sigterm, requests handed over': () => whereHandedOver('the.sigterm({ requests: 100_000, perSecond: 5000 }, 4)'),
  'sigterm, requests not handed over': () => sigterm({ requests: 100_000, perSecond: 5000 }, 4),
  sigkill: () => sigkill({ requests: 40_000, perSecond: 5000 }, 100),
  'rolling-restart, kept connections': () => rollingRestart({ requests: 100_000, perSecond: 2000 }, 'kept'),
  'rolling-restart, fresh connections, requests handed over': () =>
    whereHandedOver("the.rollingRestart({ requests: 50_000, perSecond: 2000 }, 'fresh')"),
  'clock-skew': () => clockSkew({ requests: 40_000, perSecond: 2000 }),
  'clock-jumps': () => clockJumps(2000, 1000, 5, ['-3600s', '+0', '+3600s', '+0']),
};

/** By the kernel, at the close of a port, to others that listen there: needs root. */
function whereHandedOver(expression: string): Promise<object> {
  return inMigratingNamespace(new URL('lifecycle-figures.ts', import.meta.url), expression);
}

const wanted = process.argv.slice(2);
for (const [name, measure] of Object.entries(figures)) {
  // The part before a comma names all of a kind.
  if (wanted.length > 0 && !wanted.includes(name.split(',')[0] as string) && !wanted.includes(name)) continue;
  try {
    console.log(JSON.stringify({ figure: name, ...(await measure()) }));
  } catch (error) {
    console.log(JSON.stringify({ figure: name, failed: String(error) }));
    process.exitCode = 1;
  }
}
