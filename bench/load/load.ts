/** Runs a load generator in a process of its own and answers what it saw. */
import { runReporting } from '../harness/reporting-child.js';
import type { RequestPlan } from './requests.js';

export type GeneratorName = 'sockets' | 'autocannon';

/** One run of load. */
export interface LoadJob {
  readonly origin: string;
  readonly connections: number;
  /** Requests a second, sent when they are due whatever the answers do; 0: a closed loop. */
  readonly rate: number;
  readonly warmupMs: number;
  readonly windowMs: number;
  readonly plan: RequestPlan;
  /** Every body must be one of these, or hold `bodyContains`. */
  readonly bodies: readonly string[];
  readonly bodyContains: string;
  /** Texts that the head of every answer must hold, in the spelling they are sent in. */
  readonly heads: readonly string[];
  /** Processes whose CPU time and memory are read at both ends of the window. */
  readonly watch: Readonly<Record<string, readonly number[]>>;
}

/** CPU time over the window in microseconds and resident memory at its end in bytes, of all processes of a name. */
export interface Consumption {
  readonly cpuUs: number;
  readonly rssBytes: number;
}

export interface LoadReport {
  /** Of the whole run, warm-up included; `sent` equals `answered` unless answers were lost. */
  readonly sent: number;
  readonly answered: number;
  readonly errors: number;
  /** Answers with another body or head than expected. */
  readonly mismatches: number;
  /** The first of those. */
  readonly mismatch: string;
  readonly statuses: Readonly<Record<string, number>>;
  readonly window: {
    readonly durationMs: number;
    readonly requests: number;
    readonly non2xx: number;
    /** At a fixed rate from when a request was due, else from when it was sent. */
    readonly latencyMs: { readonly p50: number; readonly p90: number; readonly p99: number; readonly max: number };
    readonly consumption: Readonly<Record<string, Consumption>>;
    /** CPU time of the load generator itself, and of everything on the machine, microseconds. */
    readonly loadCpuUs: number;
    readonly machineCpuUs: number;
    /** Ends of the window on the machine's monotonic clock, microseconds. */
    readonly fromUs: number;
    readonly toUs: number;
  };
}

const scripts: Readonly<Record<GeneratorName, URL>> = {
  sockets: new URL('sockets-generator.ts', import.meta.url),
  autocannon: new URL('autocannon-generator.ts', import.meta.url),
};

/** Drives one run. Rejects when the generator fails or does not end in time. */
export function driveLoad(generator: GeneratorName, job: LoadJob, core: number): Promise<LoadReport> {
  return runReporting(scripts[generator], [JSON.stringify(job)], core, job.warmupMs + job.windowMs + 90_000);
}
