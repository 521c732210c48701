/** Under what conditions a run was made: what a reader needs to judge the figures, or to repeat them. */
import { describeCores, type CorePlan } from '../harness/cores.js';
import type { RedisMemory } from '../harness/redis-memory.js';
import type { GeneratorName } from '../load/load.js';
import type { BenchOptions } from '../options.js';
import type { Scenario } from '../scenarios/scenario.js';
import type { Machine } from './machine.js';
import type { Run } from '../harness/measure.js';
import { loadName } from './targets.js';

/** One line each. */
export function conditionLines(
  machine: Machine,
  cores: CorePlan,
  options: BenchOptions,
  runs: readonly Run[],
): string[] {
  const others = runs.flatMap((run) => (run.figures === undefined ? [] : [run.figures.coresOthers]));
  const slowdowns = runs.map((run) => run.slowdown);
  const { warmupS, durationS, connections, generator } = options;
  const rates = [...new Set(runs.map((run) => run.rate))].sort((left, right) => left - right);
  return [
    `Machine: ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGib} GiB, Linux ${machine.kernel}, loopback only.`,
    `Versions: Node ${machine.node.slice(1)}, ${machine.uWebSockets}, Redis ${machine.redis} (no persistence, TCP), ` +
      `nginx ${machine.nginx}, autocannon ${machine.autocannon}.`,
    `Pinning: ${describeCores(cores)}.`,
    `Load: ${connections} connections, pipelining 1, ${rates.map(loadName).join(' and ')}, by ${generatorName(generator)}; ` +
      `${runsEach(runs)} interleaved runs a scenario and load of ${warmupS} s warm-up in a closed loop ` +
      `(and 1 s at the fixed rate) and ${durationS} s measured, each with a fresh process; median (least-most).`,
    'CPU: utime + stime of the process and its threads over the measured window, by its answers in that window.',
    ...(others.length === 0 ? [] : [disturbance(Math.max(...others), Math.max(...slowdowns))]),
  ];
}

/** How often each scenario ran under each load: `3`, or `1 to 3`. */
function runsEach(runs: readonly Run[]): string {
  const counts = new Map<string, number>();
  for (const { scenario, rate } of runs) {
    const name = `${scenario} ${rate}`;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const [least, most] = [Math.min(...counts.values()), Math.max(...counts.values(), 0)];
  if (most === 0) return 'no';
  return least === most ? String(most) : `${least} to ${most}`;
}

function generatorName(generator: GeneratorName): string {
  return generator === 'autocannon' ? 'autocannon' : "the benchmark's own client on bare sockets";
}

/** Memory of Redis, one line a fact that was measured. */
export function memoryLines(memory: RedisMemory): string[] {
  const lines: string[] = [];
  if (memory.tokenBytes !== undefined) {
    lines.push(`Redis, bytes a token: ${memory.tokenBytes} (record and place in its tenant's list; a million of them)`);
  }
  if (memory.usedTokenBytes !== undefined) {
    lines.push(
      `Redis, bytes a token that is called all the time: ${memory.usedTokenBytes} more (its counters and its usage)`,
    );
  }
  if (memory.seldomUsedTokenBytes !== undefined) {
    lines.push(
      `Redis, bytes a token that is called seldom: ${memory.seldomUsedTokenBytes} more (the same, of the million)`,
    );
  }
  if (memory.tokenDayBytes !== undefined) {
    lines.push(`Redis, bytes a token and day: ${memory.tokenDayBytes} more (where its entries stand in the log)`);
  }
  if (memory.logEntryBytes !== undefined) {
    lines.push(`Redis, bytes an entry of the access log: ${memory.logEntryBytes} (streams of the run made last)`);
  }
  return lines;
}

/** What each scenario is, one line each. */
export function scenarioLines(scenarios: readonly Scenario[]): string[] {
  return scenarios.map(({ name, about }) => `${name}: ${about}.`);
}

function disturbance(others: number, slowdown: number): string {
  return (
    `Disturbance: other work took at most ${Math.round(others * 100)}% of a core during a window; a fixed piece of ` +
    `work around the runs took up to ${slowdown.toFixed(2)} times its least CPU time (1 = the machine was steady).`
  );
}
