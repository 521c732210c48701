/** The measured window of a run: CPU time of the watched processes at its two ends, and the answers in between. */
import { cpuUs, machineCpuUs, rssBytes } from '../harness/proc.js';
import type { Consumption, LoadJob, LoadReport } from './load.js';
import { Samples } from './samples.js';

interface Snapshot {
  readonly atMs: number;
  readonly cpu: Readonly<Record<string, number>>;
  readonly loadCpuUs: number;
  readonly machineCpuUs: number;
  readonly monotonicUs: number;
}

export type Phase = 'warm-up' | 'window' | 'drain';

/** What a generator has counted over the whole run. */
export type Totals = Pick<LoadReport, 'sent' | 'errors' | 'mismatches' | 'mismatch'>;

export class MeasuredWindow {
  phase: Phase = 'warm-up';
  answered = 0;
  readonly #job: LoadJob;
  readonly #statuses: Record<string, number> = {};
  readonly #latencies = new Samples();
  #non2xx = 0;
  #before: Snapshot | undefined;
  #after: Snapshot | undefined;
  #memory: Record<string, number> = {};

  /** The warm-up begins now; `drain` is called when the window has ended. */
  constructor(job: LoadJob, drain: () => void) {
    this.#job = job;
    setTimeout(() => {
      this.#before = this.#snapshot();
      this.phase = 'window';
    }, job.warmupMs);
    setTimeout(() => {
      this.phase = 'drain';
      this.#after = this.#snapshot();
      this.#memory = this.#sums(rssBytes);
      drain();
    }, job.warmupMs + job.windowMs);
  }

  /** An answer came. */
  count(status: number, latencyMs: number): void {
    this.answered++;
    this.#statuses[status] = (this.#statuses[status] ?? 0) + 1;
    if (this.phase !== 'window') return;
    this.#latencies.add(latencyMs);
    if (status < 200 || status > 299) this.#non2xx++;
  }

  /** Prints the report of the run. @throws Error, with what was wrong, when the run ended before its window. */
  print(totals: Totals): void {
    const [before, after] = [this.#before, this.#after];
    if (before === undefined || after === undefined) {
      throw new Error(`the run ended before its window: ${totals.mismatch}`);
    }
    const consumption: Record<string, Consumption> = {};
    for (const name of Object.keys(this.#job.watch)) {
      const used = (after.cpu[name] ?? 0) - (before.cpu[name] ?? 0);
      consumption[name] = { cpuUs: used, rssBytes: this.#memory[name] ?? 0 };
    }
    const [p50 = 0, p90 = 0, p99 = 0, max = 0] = this.#latencies.quantiles([0.5, 0.9, 0.99, 1]);
    const report: LoadReport = {
      ...totals,
      answered: this.answered,
      statuses: this.#statuses,
      window: {
        durationMs: after.atMs - before.atMs,
        requests: this.#latencies.count,
        non2xx: this.#non2xx,
        latencyMs: { p50, p90, p99, max },
        consumption,
        loadCpuUs: after.loadCpuUs - before.loadCpuUs,
        machineCpuUs: after.machineCpuUs - before.machineCpuUs,
        fromUs: before.monotonicUs,
        toUs: after.monotonicUs,
      },
    };
    console.log(JSON.stringify(report));
  }

  #snapshot(): Snapshot {
    return {
      atMs: performance.now(),
      cpu: this.#sums(cpuUs),
      loadCpuUs: cpuUs(process.pid),
      machineCpuUs: machineCpuUs(),
      monotonicUs: Number(process.hrtime.bigint() / 1000n),
    };
  }

  #sums(read: (pid: number) => number): Record<string, number> {
    const sums = Object.entries(this.#job.watch).map(([name, pids]) => [
      name,
      pids.reduce((sum, pid) => sum + read(pid), 0),
    ]);
    return Object.fromEntries(sums) as Record<string, number>;
  }
}
