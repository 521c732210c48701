/**
 * The benchmark: `npm run bench -- [options]` (see options.ts, docs/benchmarks.md).
 *
 * Scenarios run in turn, A B C A B C …, so that whatever else happens on the machine meets all of them alike. A run
 * that is wrong or had an error is reported as FAILED and is in no figure; the exit code is then 1.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Calm } from './harness/calm.js';
import { pin } from './harness/cores.js';
import { measure, type Run } from './harness/measure.js';
import { type RedisMemory, redisMemory } from './harness/redis-memory.js';
import { Stage } from './harness/stage.js';
import { type BenchOptions, differenceOf, parseOptions, usage } from './options.js';
import { conditionLines, memoryLines, scenarioLines } from './report/conditions.js';
import { describeMachine } from './report/machine.js';
import { listed, writeMarkdown } from './report/markdown.js';
import { writePlots } from './report/plots.js';
import { costLines, newestProfile, profileCosts } from './report/profile.js';
import { summarize } from './report/summary.js';
import {
  bodyLines,
  failureLines,
  markdownTable,
  markdownTargets,
  terminalTable,
  terminalTargets,
} from './report/tables.js';
import { judgeTargets, loadName } from './report/targets.js';
import { bodyScenarios, type BodyResult, type BodyScenario, carryBody } from './scenarios/proxy-body.js';
import { ratesOf, type Scenario } from './scenarios/scenario.js';
import { scenarios } from './scenarios/all.js';

const profiledFunctions = 25;
const profiledParts = 16;

function isBody(name: string): name is BodyScenario {
  return (bodyScenarios as readonly string[]).includes(name);
}

/** What to run; peers that this machine lacks are left out and named, unless they were asked for by name. */
function chosen(options: BenchOptions): Scenario[] {
  if (options.scenarios.length === 0) {
    return scenarios.filter((scenario) => {
      if (scenario.isPeer && !options.peers) return false;
      const missing = scenario.missing();
      if (missing !== undefined) say(`${scenario.name} is left out: ${missing}`);
      return missing === undefined;
    });
  }
  const names = options.scenarios.filter((name) => !isBody(name));
  return names.map((name) => {
    const found = scenarios.find((scenario) => scenario.name === name);
    const known = [...scenarios.map((scenario) => scenario.name), ...bodyScenarios].join(', ');
    if (found === undefined) throw new Error(`There is no scenario "${name}": choose from ${known}.`);
    const missing = found.missing();
    if (missing !== undefined) throw new Error(`${name} cannot run: ${missing}.`);
    return found;
  });
}

/** What a benchmark that is made in pieces keeps of the earlier ones. */
interface Kept {
  readonly options?: BenchOptions;
  readonly runs: readonly Run[];
  readonly bodies: readonly BodyResult[];
  readonly memory: RedisMemory;
}

function keptOf(options: BenchOptions): Kept {
  if (!options.append || options.json === undefined || !existsSync(options.json)) {
    return { runs: [], bodies: [], memory: {} };
  }
  const kept = JSON.parse(readFileSync(options.json, 'utf8')) as Kept;
  const difference = kept.options === undefined ? '' : differenceOf(kept.options, options);
  if (difference !== '')
    throw new Error(`${options.json} was measured with ${difference}: a further piece must be too.`);
  return kept;
}

async function runAll(
  list: readonly Scenario[],
  stage: Stage,
  calm: Calm,
  options: BenchOptions,
  kept: readonly Run[],
): Promise<Run[]> {
  const runs: Run[] = [];
  // Ratios are taken within a repetition: a later piece is one of its own.
  const keptRepetitions = Math.max(0, ...kept.map((run) => run.repetition));
  for (let each = 1; each <= options.repetitions; each++) {
    for (const scenario of list) {
      for (const rate of ratesOf(scenario, options.rates)) {
        const repetition = each + keptRepetitions;
        await calm.wait(options.calmS * 1000);
        const before = calm.slowdown();
        const runOptions = { ...options, rate, profileDir: options.profile };
        const measured = await measure(scenario, stage, runOptions, repetition);
        const run = { ...measured, slowdown: Math.max(before, calm.slowdown()) };
        runs.push(run);
        say(`${each}/${options.repetitions} ${scenario.name}, ${loadName(rate)}: ${progress(run)}`);
        if (options.profile !== undefined && scenario.profiled) printProfile(options.profile, run);
      }
    }
  }
  return runs;
}

function progress({ faults, figures, slowdown }: Run): string {
  if (faults.length > 0 || figures === undefined) return `FAILED: ${faults.join('; ')}`;
  const others = Math.round(figures.coresOthers * 100);
  const load = `${Math.round(figures.requestsPerS)} req/s, ${figures.cpuUs.toFixed(1)} us/req`;
  return `ok, ${load} (other work ${others}% of a core, machine ${slowdown.toFixed(2)} x slower than at its best)`;
}

function printProfile(dir: string, run: Run): void {
  if (run.window === undefined || run.figures === undefined) return;
  const file = newestProfile(dir);
  console.log(`\n${run.scenario}, self time without idle (${file}):`);
  const { functions, parts } = profileCosts(file, run.window, run.figures.requests);
  for (const line of costLines(functions, profiledFunctions)) console.log(line);
  console.log(`\n${run.scenario}, by part, with what it calls in Node and natively:`);
  for (const line of costLines(parts, profiledParts)) console.log(line);
}

async function main(options: BenchOptions): Promise<boolean> {
  const list = chosen(options);
  if (options.profile !== undefined) mkdirSync(options.profile, { recursive: true });
  const kept = keptOf(options);
  const stage = new Stage();
  // It works during a run too (see scraped.ts): off the measured core.
  pin(process.pid, stage.cores.load);
  const calm = new Calm();
  let runs = kept.runs;
  let memory = kept.memory;
  const bodies = [...kept.bodies];
  try {
    runs = [...runs, ...(await runAll(list, stage, calm, options, runs))];
    memory = { ...memory, ...(await redisMemory(stage)) };
    for (const name of options.scenarios.filter(isBody)) {
      await calm.wait(options.calmS * 1000);
      bodies.push(await carryBody(name, stage));
      say(bodyLines(bodies).at(-1) ?? '');
    }
  } finally {
    await stage.close();
  }
  const machine = describeMachine();
  const rows = summarize(runs);
  const targets = judgeTargets(runs);
  const conditions = conditionLines(machine, stage.cores, options, runs);
  const failures = failureLines(rows);
  const parts = [
    rows.length === 0 ? '' : terminalTable(rows),
    targets.length === 0 ? '' : terminalTargets(targets),
    ...bodyLines(bodies),
    ...memoryLines(memory),
    ...failures,
    '',
    ...scenarioLines(list),
    '',
    ...conditions,
    ...(options.profile === undefined ? [] : ['Tollkeeper was profiled: its figures are too high.']),
  ];
  console.log(parts.join('\n'));
  if (options.json !== undefined) {
    const everything = { machine, cores: stage.cores, options, conditions, rows, targets, bodies, memory, runs };
    writeFileSync(options.json, `${JSON.stringify(everything, null, 2)}\n`);
  }
  if (options.markdown !== undefined) {
    writeMarkdown(options.markdown, [
      targets.length === 0 ? '' : markdownTargets(targets),
      ...writePlots(rows, join(dirname(options.markdown), 'benchmarks'), 'benchmarks'),
      rows.length === 0 ? '' : markdownTable(rows),
      listed([...failures, ...bodyLines(bodies), ...memoryLines(memory)]),
      listed(conditions),
    ]);
  }
  return failures.length === 0 && bodies.every((body) => body.faults.length === 0);
}

function say(line: string): void {
  process.stderr.write(`bench: ${line}\n`);
}

// The exit handler of test/support/process.ts then ends the children.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

try {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') console.log(usage);
  else process.exitCode = (await main(options)) ? 0 : 1;
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = 2;
}
