/** A mixed load at a steady rate with one fault after another, the memory watched, and the history judged at the end. */
import { createHash, createHmac } from 'node:crypto';
import { samplesOf } from '../support/exposition.js';
import type { IssuedToken } from '../support/installation.js';
import { residentBytes } from '../support/memory.js';
import { type Call } from './history.js';
import { startFaultRig, type FaultRig } from './fault-rig.js';

export interface SoakOptions {
  readonly seconds: number;
  /** Requests a second. */
  readonly rate: number;
  readonly progress?: (line: string) => void;
}

export interface SoakReport {
  readonly seconds: number;
  readonly requests: number;
  readonly outcomes: Readonly<Record<string, number>>;
  /** Faults in their order, with the seconds they began and ended. */
  readonly faults: readonly { readonly name: string; readonly from: number; readonly to: number }[];
  /** Server errors and missing answers while nothing was wrong: how many, and the first of them. */
  readonly unexpectedCount: number;
  readonly unexpected: readonly Call[];
  /** MiB of resident memory: after the warm-up (a fifth of the time), at the end, at most. */
  readonly residentMiB: { readonly warm: number; readonly end: number; readonly most: number };
  /** Least-squares slope after the warm-up, MiB an hour. */
  readonly slopeMiBPerHour: number;
  /** Worst 99th percentile of the event loop's lag that was scraped while nothing was wrong, ms. */
  readonly eventLoopP99Ms: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

interface Fault {
  readonly name: string;
  begin(rig: FaultRig): Promise<unknown>;
  end(rig: FaultRig): Promise<unknown>;
}

const nothing = (): Promise<void> => Promise.resolve();

const faults: readonly Fault[] = [
  {
    name: 'Redis frozen',
    begin: async (rig) => rig.installation.redis.freeze(),
    end: async (rig) => rig.installation.redis.thaw(),
  },
  {
    name: 'Redis killed, back with its data',
    begin: (rig) => rig.installation.redis.kill(),
    end: (rig) => rig.installation.redis.restart({ keepData: true }),
  },
  {
    name: 'Redis 300 ms slow',
    begin: async (rig) => rig.redisLink.fail({ kind: 'latency', ms: 300 }),
    end: async (rig) => rig.redisLink.fail({ kind: 'none' }),
  },
  {
    name: 'connections to Redis reset',
    begin: async (rig) => rig.redisLink.fail({ kind: 'reset' }),
    end: async (rig) => rig.redisLink.fail({ kind: 'none' }),
  },
  {
    name: 'connections to the upstream reset',
    begin: async (rig) => rig.upstreamLink.fail({ kind: 'reset' }),
    end: async (rig) => rig.upstreamLink.fail({ kind: 'none' }),
  },
  {
    name: 'upstream stalled',
    begin: async (rig) => rig.upstreamLink.fail({ kind: 'stalled' }),
    end: async (rig) => rig.upstreamLink.fail({ kind: 'none' }),
  },
  {
    name: 'scripts flushed',
    begin: async (rig) => {
      const client = rig.installation.redis.client();
      await client.script('FLUSH');
      client.disconnect();
    },
    end: nothing,
  },
  { name: 'policy reloaded', begin: async (rig) => rig.sidecars[0]?.signal('SIGHUP'), end: nothing },
];

function signedPost(token: IssuedToken, path: string, body: string, nonce: string): Record<string, string> {
  const timestamp = String(Math.floor(Date.now() / 1000));
  const digest = createHash('sha256').update(body).digest('hex');
  const text = ['POST', path, timestamp, nonce, digest].join('\n');
  return {
    'x-tollkeeper-token': token.id,
    'x-tollkeeper-timestamp': timestamp,
    'x-tollkeeper-nonce': nonce,
    'x-tollkeeper-signature': createHmac('sha256', token.secret).update(text).digest('hex'),
  };
}

/** Resolves after `ms`; a soak is about time. */
function pass(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

/** Starts everything, runs for the time, expects the history to be without a fault, and reports. */
export async function runSoak({ seconds, rate, progress = () => {} }: SoakOptions): Promise<SoakReport> {
  const rig = await startFaultRig({
    redis: { appendonly: true, args: ['--appendfsync', 'everysec'] },
    env: { TOLLKEEPER_UPSTREAM_TIMEOUT_MS: '2000', TOLLKEEPER_AUTH_FAILURE_LIMIT: '0' },
    upstream: (request, response) => {
      request.resume();
      request.on('end', () => response.end(request.method === 'GET' ? 'x'.repeat(1024) : 'stored'));
    },
  });
  try {
    const signer = await rig.installation.token('acme', '--scopes', 'files', '--mode', 'hmac', '--limit', '1000000');
    const limited = await rig.installation.token('acme', '--scopes', 'files', '--limit', '60', '--window', '60');
    const gone = await rig.installation.token('acme', '--scopes', 'files');
    await rig.installation.command('token', 'revoke', gone.id);
    const body = 'b'.repeat(2048);
    const upload = Buffer.alloc(64 * 1024, 1);
    let number = 0;
    const send = (): Promise<Call> => {
      const kind = number++ % 20;
      if (kind < 10) return rig.send('/files/a');
      if (kind < 13) {
        const headers = signedPost(signer, '/files/a', body, `s${number}`);
        return rig.history.call(rig.pool(), '/files/a', { method: 'POST', headers, body });
      }
      if (kind < 15) return rig.send('/files/a', { token: limited.secret });
      if (kind < 16) return rig.send('/files/a', { token: gone.secret });
      if (kind < 17) return rig.send('/secrets/a');
      if (kind < 19) return rig.send('/open/a');
      return rig.send('/files/upload', { method: 'PUT', body: upload });
    };

    const pid = rig.sidecars[0]?.pid as number;
    const startedAtMs = performance.now();
    const nowS = (): number => (performance.now() - startedAtMs) / 1000;
    const open = new Set<Promise<Call>>();
    let going = true;
    const load = (async () => {
      let sent = 0;
      while (going) {
        for (const due = nowS() * rate; sent < due; sent += 1) {
          if (open.size > 2000) continue;
          const call = send();
          open.add(call);
          void call.finally(() => open.delete(call));
        }
        await pass(10);
      }
      await Promise.all(open);
    })();

    const done: { name: string; from: number; to: number }[] = [];
    let isFaulty = false;
    const resident: [second: number, bytes: number][] = [];
    let eventLoopP99Ms = 0;
    const watch = (async () => {
      while (going) {
        resident.push([nowS(), residentBytes(pid)]);
        const lagS = samplesOf(await rig.metrics()).get('nodejs_eventloop_lag_p99_seconds') ?? 0;
        if (!isFaulty && nowS() > seconds / 5) eventLoopP99Ms = Math.max(eventLoopP99Ms, lagS * 1000);
        await pass(Math.min(5000, seconds * 20));
      }
    })();

    // The faults fill the middle; with a long time their round comes again.
    const rounds = Math.max(1, Math.floor(seconds / 300));
    const spacingS = (seconds * 0.8) / (faults.length * rounds);
    const lengthMs = Math.min(3000, spacingS * 250);
    for (let turn = 0; turn < faults.length * rounds; turn += 1) {
      const fault = faults[turn % faults.length] as Fault;
      await pass(Math.max(0, seconds * 100 + turn * spacingS * 1000 - nowS() * 1000));
      const from = nowS();
      isFaulty = true;
      await fault.begin(rig);
      await pass(fault.end === nothing ? 0 : lengthMs);
      await fault.end(rig);
      await pass(Math.min(1500, spacingS * 250));
      isFaulty = false;
      done.push({ name: fault.name, from, to: nowS() });
      progress(`${Math.round(nowS())} s: ${fault.name}; ${Math.round(residentBytes(pid) / 2 ** 20)} MiB`);
    }
    await pass(Math.max(0, seconds * 1000 - nowS() * 1000));
    going = false;
    await Promise.all([load, watch]);

    const calls = rig.history.calls;
    const whileFaulty = ({ startedAtMs: atMs, tookMs }: Call): boolean => {
      const from = (atMs - startedAtMs) / 1000;
      return done.some((fault) => from <= fault.to && from + tookMs / 1000 >= fault.from);
    };
    const unexpected = calls.filter((call) => (call.status >= 500 || call.status === 0) && !whileFaulty(call));
    const calm = calls
      .filter((call) => !whileFaulty(call))
      .map(({ tookMs }) => tookMs)
      .sort((one, other) => one - other);
    const warm = resident.filter(([second]) => second > seconds / 5);
    const report: SoakReport = {
      seconds: Math.round(nowS()),
      requests: calls.length,
      outcomes: rig.history.outcomes(),
      faults: done.map(({ name, from, to }) => ({ name, from: Math.round(from), to: Math.round(to) })),
      unexpectedCount: unexpected.length,
      unexpected: unexpected.slice(0, 20),
      residentMiB: {
        warm: mebibytes(warm[0]?.[1] ?? 0),
        end: mebibytes(warm.at(-1)?.[1] ?? 0),
        most: mebibytes(resident.reduce((most, [, bytes]) => Math.max(most, bytes), 0)),
      },
      slopeMiBPerHour: Math.round((slopeOf(warm) * 3600 * 10) / 2 ** 20) / 10,
      eventLoopP99Ms: Math.round(eventLoopP99Ms * 10) / 10,
      p50Ms: Math.round((calm[Math.floor(calm.length / 2)] ?? 0) * 10) / 10,
      p99Ms: Math.round((calm[Math.floor(calm.length * 0.99)] ?? 0) * 10) / 10,
    };
    await rig.check({ mayRepeat: true });
    return report;
  } finally {
    await rig.stop();
  }
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 2 ** 20);
}

/** Least squares; units of the second value a unit of the first. */
function slopeOf(points: readonly (readonly [number, number])[]): number {
  const count = points.length;
  const meanX = points.reduce((sum, [x]) => sum + x, 0) / count;
  const meanY = points.reduce((sum, [, y]) => sum + y, 0) / count;
  const over = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0);
  const under = points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  return under === 0 ? 0 : over / under;
}
