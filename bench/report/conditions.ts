/** Under what conditions a run was made: what a reader needs to judge the figures, or to repeat them. */
import { describeCores, type CorePlan } from '../harness/cores.js';
import type { BenchOptions } from '../options.js';
import type { Scenario } from '../scenarios/scenario.js';
import type { Machine } from './machine.js';
import type { Row } from './summary.js';

/** One line each. */
export function conditionLines(
  machine: Machine,
  cores: CorePlan,
  options: BenchOptions,
  rows: readonly Row[],
): string[] {
  const others = rows.flatMap((row) => (row.figures === undefined ? [] : [row.figures.coresOthers.max]));
  const { repetitions, warmupS, durationS, connections } = options;
  return [
    `Machine: ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGib} GiB, Linux ${machine.kernel}, loopback only.`,
    `Versions: Node ${machine.node.slice(1)}, ${machine.uWebSockets}, Redis ${machine.redis} (no persistence, TCP), ` +
      `nginx ${machine.nginx}, autocannon ${machine.autocannon}.`,
    `Pinning: ${describeCores(cores)}.`,
    `Load: ${connections} connections, pipelining 1, closed loop; ${repetitions} interleaved runs a scenario of ` +
      `${warmupS} s warm-up and ${durationS} s measured, each with a fresh process; median (least-most).`,
    'CPU: utime + stime of the process and its threads over the measured window, by its answers in that window.',
    ...(others.length === 0
      ? []
      : [`Other work on the machine during the windows: at most ${Math.round(Math.max(...others) * 100)}% of a core.`]),
  ];
}

/** What each scenario is, one line each. */
export function scenarioLines(scenarios: readonly Scenario[]): string[] {
  return scenarios.map(({ name, about }) => `${name}: ${about}.`);
}
