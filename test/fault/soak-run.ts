/** A mixed load at a steady rate with one fault after another, the processes watched, and the history judged at the end. */
import { cpus, loadavg } from 'node:os';
import { samplesOf } from '../support/exposition.js';
import { residentBytes } from '../support/memory.js';
import { startFaultRig } from './fault-rig.js';
import { type Call, outcomesOf } from './history.js';
import type { Standstill } from './soak-bystander.js';
import { startBystander } from './soak-bystander-process.js';
import { type Fault, faults, type SoakWorld } from './soak-faults.js';
import { pass, startLoad } from './soak-load.js';
import {
  type Growth,
  growthOf,
  type Judged,
  judgeAnswers,
  judgeGrowth,
  judgeIdentities,
  judgeLoop,
  rounded,
  warmUpS,
} from './soak-report.js';
import { watchProcesses } from './soak-watch.js';

export interface SoakOptions {
  readonly seconds: number;
  /** Requests a second. */
  readonly rate: number;
  readonly workers: number;
  readonly progress?: (line: string) => void;
}

export interface SoakReport {
  readonly seconds: number;
  readonly warmUpSeconds: number;
  readonly requests: number;
  readonly outcomes: Readonly<Record<string, number>>;
  readonly storeErrors: Readonly<Record<string, number>>;
  /** Faults in their order, with the seconds they began and ended. */
  readonly faults: readonly { readonly name: string; readonly from: number; readonly to: number }[];
  /** Outside the faults and the collections of garbage. */
  readonly answersMs: { readonly p50: number; readonly p99: number };
  readonly memory: readonly Growth[];
  /** MiB of Redis, which keeps the log of it all, and of the load generator, which keeps the history, at the end. */
  readonly besides: { readonly redis: number; readonly loadGenerator: number };
  /** Processor cores of the machine, and its load average over a minute at the start and at the end. */
  readonly machine: { readonly cores: number; readonly load: readonly [number, number] };
  /** How often and how long in all, ms, something else than Tollkeeper stood still outside the faults. */
  readonly standstills: Readonly<Record<Standstill['what'], { readonly count: number; readonly ms: number }>>;
  /** 5xx and missing answers outside the faults, by outcome. */
  readonly unexpected: Readonly<Record<string, number>>;
  /** The first of the unexpected answers that nothing explains. */
  readonly unexplained: readonly Call[];
  readonly judged: readonly Judged[];
}

/** Memory is looked at this often, s. */
const sampleEveryS = 20;
/** How long a fault is felt after its end, ms. */
const afterMs = 1500;

/** A time that is not judged, ms by `performance.now()`. */
interface Disturbance {
  readonly fromMs: number;
  readonly toMs: number;
}

/** Starts everything, runs for the time, has the history judged, and reports. */
export async function runSoak({ seconds, rate, workers, progress = () => {} }: SoakOptions): Promise<SoakReport> {
  const bystander = startBystander();
  const links: Awaited<ReturnType<typeof bystander.carry>>[] = [];
  const rig = await startFaultRig({
    redis: { appendonly: true, args: ['--appendfsync', 'everysec'] },
    env: {
      TOLLKEEPER_UPSTREAM_TIMEOUT_MS: '2000',
      TOLLKEEPER_AUTH_FAILURE_LIMIT: '0',
      TOLLKEEPER_WORKERS: String(workers),
      NODE_OPTIONS: '--inspect=127.0.0.1:0',
    },
    upstream: (request, response) => {
      request.resume();
      request.on('end', () => response.end(request.method === 'GET' ? 'x'.repeat(1024) : 'stored'));
    },
    async carry(port) {
      const link = await bystander.carry(port);
      links.push(link);
      return link;
    },
  });
  try {
    const [sidecar] = rig.sidecars;
    const [redisLink, upstreamLink] = links;
    if (sidecar === undefined || redisLink === undefined || upstreamLink === undefined) throw new Error('incomplete');
    const world: SoakWorld = { rig, redisLink, upstreamLink };
    bystander.watch(rig.installation.redis.port);
    const watch = await watchProcesses(sidecar);
    const warmS = warmUpS(seconds);
    const load = await startLoad(rig, rate);
    const loadAtStart = rounded(loadavg()[0] ?? 0);
    const startedAtMs = performance.now();
    const nowS = (): number => (performance.now() - startedAtMs) / 1000;

    const disturbances: Disturbance[] = [];
    const done: { name: string; from: number; to: number }[] = [];
    const measureLoops = async (isOn: boolean): Promise<void> => {
      bystander.measureLoop(isOn);
      await watch.measureLoops(isOn);
    };
    /** Nothing inside is judged. */
    const disturb = async (work: () => Promise<unknown>): Promise<void> => {
      await measureLoops(false);
      const fromMs = performance.now();
      await work();
      disturbances.push({ fromMs, toMs: performance.now() });
      if (nowS() >= warmS) await measureLoops(true);
    };
    const suffer = async (fault: Fault, lengthMs: number): Promise<void> => {
      const from = nowS();
      await disturb(async () => {
        await fault.begin(world);
        if (fault.end !== undefined) await pass(lengthMs);
        await fault.end?.(world);
        await pass(Math.min(afterMs, lengthMs));
      });
      done.push({ name: fault.name, from: Math.round(from), to: Math.round(nowS()) });
      progress(`${Math.round(nowS())} s: ${fault.name}; ${Math.round(residentBytes(sidecar.pid) / 2 ** 20)} MiB`);
    };
    const sample = (): Promise<void> =>
      disturb(async () => {
        await watch.sample(nowS());
        // Who waited meanwhile is answered.
        await pass(100);
      });

    // One thing at a time: the faults fill the middle, their round comes again every five minutes.
    const rounds = Math.max(1, Math.floor(seconds / 300));
    const count = faults.length * rounds;
    const spacingS = (seconds * 0.8) / count;
    const lengthMs = Math.min(3000, spacingS * 250);
    let scrapedAtS = 0;
    let sampledAtS = 0;
    // A machine that is late with them has them all the same.
    for (let turn = 0; nowS() < seconds || turn < count; ) {
      if (turn < count && nowS() >= seconds * 0.1 + turn * spacingS) {
        await suffer(faults[turn % faults.length] as Fault, lengthMs);
        turn += 1;
      } else if (nowS() >= sampledAtS + Math.min(sampleEveryS, seconds / 10)) {
        sampledAtS = nowS();
        await sample();
      } else if (nowS() >= scrapedAtS + 5) {
        scrapedAtS = nowS();
        await rig.metrics();
      } else {
        await pass(50);
      }
    }
    await sample();
    await measureLoops(false);
    await load.stop();

    const { calls } = rig.history;
    const calm = calls.filter((call) => !disturbances.some((disturbance) => meets(call, disturbance)));
    const isFailed = ({ status }: Call): boolean => status >= 500 || status === 0;
    const isCalm = ({ fromMs, toMs }: { fromMs: number; toMs: number }): boolean =>
      !disturbances.some((each) => {
        const origin = performance.timeOrigin;
        return fromMs <= origin + each.toMs && toMs >= origin + each.fromMs;
      });
    const witness = await bystander.witness();
    const standstills = witness.standstills.filter(isCalm);
    const unexpected = calm.filter(isFailed);
    const { unexplained, judged } = judgeAnswers(unexpected, standstills);
    const memory = watch.processes.map((process) => growthOf(process, warmS));
    const loops = await watch.loopDelays();
    watch.stop();
    const took = calm.map(({ tookMs }) => tookMs).sort((one, other) => one - other);
    const report: SoakReport = {
      seconds: Math.round(nowS()),
      warmUpSeconds: Math.round(warmS),
      requests: calls.length,
      outcomes: outcomesOf(calls),
      storeErrors: storeErrorsIn(await rig.metrics()),
      faults: done,
      answersMs: {
        p50: rounded(took[Math.floor(took.length / 2)] ?? 0),
        p99: rounded(took[Math.floor(took.length * 0.99)] ?? 0),
      },
      memory,
      besides: {
        redis: Math.round(residentBytes(rig.installation.redis.pid) / 2 ** 20),
        loadGenerator: Math.round(residentBytes(process.pid) / 2 ** 20),
      },
      machine: { cores: cpus().length, load: [loadAtStart, rounded(loadavg()[0] ?? 0)] },
      standstills: { machine: summed(standstills, 'machine'), redis: summed(standstills, 'redis') },
      unexpected: outcomesOf(unexpected),
      unexplained: unexplained.slice(0, 20),
      judged: [
        await judgeIdentities(() => rig.check({ mayRepeat: true })),
        judged,
        ...loops.map((delay) => judgeLoop(delay, witness.loopP99Ms)),
        ...memory.map((growth) => judgeGrowth(growth, seconds - warmS)),
      ],
    };
    return report;
  } finally {
    await rig.stop();
    await bystander.stop();
  }
}

function meets({ startedAtMs, tookMs }: Call, { fromMs, toMs }: Disturbance): boolean {
  return startedAtMs <= toMs && startedAtMs + tookMs >= fromMs;
}

function summed(all: readonly Standstill[], wanted: Standstill['what']): { count: number; ms: number } {
  const those = all.filter(({ what }) => what === wanted);
  return { count: those.length, ms: those.reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0) };
}

/** Calls to Redis that failed, by kind, the faults included. */
function storeErrorsIn(exposition: string): Record<string, number> {
  const counted = [...samplesOf(exposition)].flatMap(([name, value]) => {
    const [, kind] = /^tollkeeper_store_errors_total\{.*kind="([^"]+)"/.exec(name) ?? [];
    return kind === undefined || value === 0 ? [] : [[kind, value] as const];
  });
  return Object.fromEntries(counted);
}
