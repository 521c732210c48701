/** One measured run: start the process, warm it up, measure, check, stop. A run that is wrong in any way has faults. */
import type { Scenario } from '../scenarios/scenario.js';
import { driveLoad, type GeneratorName, type LoadReport } from '../load/load.js';
import type { Stage } from './stage.js';

export interface RunOptions {
  readonly connections: number;
  readonly durationS: number;
  readonly warmupS: number;
  readonly generator: GeneratorName;
  /** Requests a second, 0: closed loop. */
  readonly rate: number;
  readonly profileDir: string | undefined;
}

/** The figures of one run. Latencies in ms, CPU in microseconds a request, `cores` parts of one core (1 = all of it). */
export interface Figures {
  readonly requests: number;
  readonly requestsPerS: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  readonly cpuUs: number;
  readonly redisCpuUs: number;
  readonly rssBytes: number;
  readonly coresSubject: number;
  /** Delay of the event loop, 99th percentile; 0 where it is not known. */
  readonly loopDelayMs: number;
  /** Used by everything on the machine that has no part in the benchmark. */
  readonly coresOthers: number;
  /** Script calls, and all commands with those inside of scripts, per request. */
  readonly redisScripts: number;
  readonly redisCommands: number;
}

export interface Run {
  readonly scenario: string;
  readonly repetition: number;
  /** Requests a second, 0: closed loop. */
  readonly rate: number;
  /** Empty: the run is right and its figures count. */
  readonly faults: readonly string[];
  readonly errors: number;
  readonly non2xx: number;
  readonly statuses: Readonly<Record<string, number>>;
  /** Absent when there was no window at all. */
  readonly figures?: Figures;
  /** CPU time of a fixed piece of work around the run, by the least this machine has shown (see calm.ts). */
  readonly slowdown: number;
  /** Ends of the measured window on the monotonic clock, microseconds. */
  readonly window?: { readonly fromUs: number; readonly toUs: number };
}

type MeasuredRun = Omit<Run, 'slowdown'>;

/** Runs a scenario once. Never throws: what goes wrong is a fault of the run. */
export async function measure(
  scenario: Scenario,
  stage: Stage,
  options: RunOptions,
  repetition: number,
): Promise<MeasuredRun> {
  const nothing = { scenario: scenario.name, repetition, rate: options.rate, errors: 0, non2xx: 0, statuses: {} };
  try {
    return { ...nothing, ...(await run(scenario, stage, options)) };
  } catch (error) {
    return { ...nothing, faults: [error instanceof Error ? error.message : String(error)] };
  }
}

async function run(
  scenario: Scenario,
  stage: Stage,
  options: RunOptions,
): Promise<Omit<MeasuredRun, 'scenario' | 'repetition' | 'rate'>> {
  const upstream = await stage.upstream();
  const subject = await scenario.start(stage, { profileDir: scenario.profiled ? options.profileDir : undefined });
  let report: LoadReport;
  let checked: Awaited<ReturnType<typeof subject.check>>;
  try {
    const job = {
      origin: subject.origin,
      connections: options.connections,
      warmupMs: options.warmupS * 1000,
      windowMs: options.durationS * 1000,
      rate: options.rate,
      plan: subject.plan,
      bodies: subject.bodies,
      bodyContains: subject.bodyContains ?? '',
      heads: subject.heads ?? [],
      watch: {
        subject: subject.pids,
        upstream: [upstream.pid],
        ...(subject.redisPid === undefined ? {} : { redis: [subject.redisPid] }),
      },
    };
    report = await driveLoad(options.generator, job, stage.cores.load);
    checked = await subject.check(report);
  } finally {
    await subject.stop();
  }
  const { window } = report;
  const faults = [...loadFaults(report, options.rate), ...checked.faults];
  const consumed = (name: string): number => window.consumption[name]?.cpuUs ?? 0;
  const windowUs = window.durationMs * 1000;
  const ours = consumed('subject') + consumed('upstream') + consumed('redis') + window.loadCpuUs;
  return {
    faults,
    errors: report.errors,
    non2xx: window.non2xx,
    statuses: report.statuses,
    figures: {
      requests: window.requests,
      requestsPerS: (window.requests * 1000) / window.durationMs,
      p50Ms: window.latencyMs.p50,
      p90Ms: window.latencyMs.p90,
      p99Ms: window.latencyMs.p99,
      cpuUs: consumed('subject') / window.requests,
      redisCpuUs: consumed('redis') / window.requests,
      rssBytes: window.consumption['subject']?.rssBytes ?? 0,
      coresSubject: consumed('subject') / windowUs,
      loopDelayMs: checked.loopDelayMs ?? 0,
      coresOthers: Math.max(0, window.machineCpuUs - ours) / windowUs,
      redisScripts: checked.redisPerRequest?.scriptCalls ?? 0,
      redisCommands: checked.redisPerRequest?.all ?? 0,
    },
    window: { fromUs: window.fromUs, toUs: window.toUs },
  };
}

/** Fewer answers than this part of what was due: the run was at another rate than those it is compared with. */
const ratePartMin = 0.95;

/** What is wrong with a run by its load alone; `rate`: requests a second, 0 for a closed loop. */
export function loadFaults(report: LoadReport, rate: number): string[] {
  const faults: string[] = [];
  if (report.window.requests === 0) faults.push('no answer in the measured window');
  if (report.errors > 0) faults.push(`${report.errors} errors or timeouts (${report.mismatch})`);
  if (report.mismatches > 0) faults.push(`${report.mismatches} wrong answers (${report.mismatch})`);
  if (report.sent !== report.answered) faults.push(`${report.sent} requests sent, ${report.answered} answered`);
  const answeredPerS = (report.window.requests * 1000) / report.window.durationMs;
  if (answeredPerS < ratePartMin * rate)
    faults.push(`${Math.round(answeredPerS)} answers a second at ${rate} requests`);
  return faults;
}
