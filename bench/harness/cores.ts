/**
 * Which process runs on which core. The measured process has one to itself; what drives it shares the others, so that
 * the load never takes CPU from what is measured.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { findExecutable } from '../../test/support/process.js';

/** Core numbers, -1: not pinned. */
export interface CorePlan {
  readonly subject: number;
  readonly load: number;
  readonly upstream: number;
  readonly redis: number;
}

const taskset = process.platform === 'linux' ? findExecutable('taskset') : undefined;

/** The plan for this machine: from four cores on nobody shares, from two on the measured process is alone. */
export function planCores(): CorePlan {
  const cores = taskset === undefined ? [] : allowedCores();
  const [first, second, third, fourth] = cores;
  if (first === undefined || second === undefined) return { subject: -1, load: -1, upstream: -1, redis: -1 };
  return { subject: first, load: second, upstream: third ?? second, redis: fourth ?? second };
}

/** One sentence about the plan, for the report. */
export function describeCores(plan: CorePlan): string {
  if (plan.subject < 0) return 'nothing pinned to cores (no taskset, or one core only)';
  return (
    `measured process alone on core ${plan.subject}; load generator on core ${plan.load}, ` +
    `upstream on core ${plan.upstream}, Redis on core ${plan.redis}`
  );
}

/** Pins a running process with all of its threads. */
export function pin(pid: number, core: number): void {
  if (taskset === undefined || core < 0) return;
  execFileSync(taskset, ['-a', '-c', '-p', String(core), String(pid)], { stdio: 'pipe' });
}

/** A command line that starts pinned; later threads inherit it. */
export function pinned(file: string, args: readonly string[], core: number): [file: string, args: string[]] {
  return taskset === undefined || core < 0 ? [file, [...args]] : [taskset, ['-c', String(core), file, ...args]];
}

/** Cores this process may use: fewer than the machine has inside a container. */
function allowedCores(): number[] {
  const [, list] = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  if (list === undefined) return cpus().map((_, index) => index);
  return list.split(',').flatMap((range) => {
    const [from = 0, to = from] = range.split('-').map(Number);
    return Array.from({ length: to - from + 1 }, (_, index) => from + index);
  });
}
