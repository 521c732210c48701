/** Runs the load generator (load-generator.ts) in a process of its own and answers what it saw. */
import { runReporting } from './reporting-child.js';

export interface LoadRequest {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

export interface LoadJob {
  readonly origin: string;
  readonly connections: number;
  readonly warmupMs: number;
  readonly windowMs: number;
  /** Sent in turn by every connection, each beginning at another one. */
  readonly requests: readonly LoadRequest[];
  /** Every body must be one of these, or hold `bodyContains`. */
  readonly bodies: readonly string[];
  readonly bodyContains: string;
  /** Processes whose CPU time and memory are read at both ends of the window. */
  readonly watch: Readonly<Record<string, number>>;
}

/** CPU time over the window in microseconds and resident memory at its end in bytes. */
export interface Consumption {
  readonly cpuUs: number;
  readonly rssBytes: number;
}

export interface LoadReport {
  /** Of the whole run, warm-up included; `sent` equals `answered` unless answers were lost. */
  readonly sent: number;
  readonly answered: number;
  readonly errors: number;
  /** Answers with another body than expected. */
  readonly mismatches: number;
  /** The first of those bodies. */
  readonly mismatch: string;
  readonly statuses: Readonly<Record<string, number>>;
  readonly window: {
    readonly durationMs: number;
    readonly requests: number;
    readonly non2xx: number;
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

const script = new URL('load-generator.ts', import.meta.url);

/** Drives one run. Rejects when the generator fails or does not end in time. */
export function driveLoad(job: LoadJob, core: number): Promise<LoadReport> {
  return runReporting(script, [JSON.stringify(job)], core, job.warmupMs + job.windowMs + 60_000);
}
