/** What a scenario of the benchmark is: a process to measure, the load on it, and what must be true afterwards. */
import type { LoadReport } from '../load/load.js';
import type { LoadRequest, RequestPlan } from '../load/requests.js';
import type { Stage } from '../harness/stage.js';

export interface SubjectOptions {
  /** Write a CPU profile of a Node process into this folder. */
  readonly profileDir: string | undefined;
}

/** The running process that is measured. */
export interface Subject {
  /** All its processes: their CPU time and memory are summed. */
  readonly pids: readonly number[];
  readonly origin: string;
  /** Redis, when the subject uses one. */
  readonly redisPid?: number;
  /** Where Tollkeeper serves `/metrics`. */
  readonly adminOrigin?: string;
  readonly plan: RequestPlan;
  /** Every answer's body is one of these, or holds `bodyContains`. */
  readonly bodies: readonly string[];
  readonly bodyContains?: string;
  /** Texts that the head of every answer holds. */
  readonly heads?: readonly string[];
  /** What is wrong with the run, one sentence each; and further figures of it. */
  check(report: LoadReport): Promise<Checked>;
  stop(): Promise<void>;
}

interface Checked {
  readonly faults: readonly string[];
  /** Redis commands per request: calls of scripts, and all commands with those inside of scripts. */
  readonly redisPerRequest?: { readonly scriptCalls: number; readonly all: number };
  /** Delay of the event loop over the whole run, 99th percentile, ms. */
  readonly loopDelayMs?: number;
}

export interface Scenario {
  readonly name: string;
  /** One line for the report. */
  readonly about: string;
  /** Only with `--peers`, or by its name. */
  readonly isPeer: boolean;
  /** Requests are too heavy for a higher fixed rate, requests/s. */
  readonly rateMax?: number;
  /** Why it cannot run here, or undefined. */
  missing(): string | undefined;
  /** Node program of ours: `--profile` applies. */
  readonly profiled: boolean;
  start(stage: Stage, options: SubjectOptions): Promise<Subject>;
}

/** The loads that a scenario is run with, of those that are asked for: too high rates are cut to one. */
export function ratesOf({ rateMax }: Pick<Scenario, 'rateMax'>, wanted: readonly number[]): number[] {
  return [...new Set(wanted.map((rate) => Math.min(rate, rateMax ?? rate)))];
}

/** A fault when any answer has another status than `expected`. */
export function statusFaults(report: LoadReport, expected: readonly number[]): string[] {
  return Object.entries(report.statuses)
    .filter(([status]) => !expected.includes(Number(status)))
    .map(([status, count]) => `${count} answers with status ${status}`);
}

/** The request that every proxy gets. */
export function productRequest(token: string): LoadRequest {
  return { method: 'GET', path: '/api/v1/products/42', headers: { authorization: `Bearer ${token}` } };
}
