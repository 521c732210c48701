/**
 * The benchmark: `npm run bench -- [options]` (see options.ts, docs/benchmarks.md).
 *
 * Scenarios run in turn, A B C A B C …, so that whatever else happens on the machine meets all of them alike. A run
 * that is wrong or had an error is reported as FAILED and is in no figure; the exit code is then 1.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { Calm } from './harness/calm.js';
import { measure, type Run } from './harness/measure.js';
import { Stage } from './harness/stage.js';
import { type BenchOptions, parseOptions, usage } from './options.js';
import { nginxProxy } from './peers/nginx-proxy.js';
import { conditionLines, scenarioLines } from './report/conditions.js';
import { describeMachine } from './report/machine.js';
import { writeMarkdown } from './report/markdown.js';
import { costLines, newestProfile, profileCosts } from './report/profile.js';
import { ratiosOf, summarize } from './report/summary.js';
import { bodyLines, failureLines, markdownTable, ratioLines, terminalTable } from './report/tables.js';
import { echo } from './scenarios/echo.js';
import { proxyBearer, proxyDenied, proxyHmac } from './scenarios/proxy.js';
import { bodyScenarios, type BodyResult, type BodyScenario, carryBody } from './scenarios/proxy-body.js';
import type { Scenario } from './scenarios/scenario.js';
import { verifyBearer, verifyHmac } from './scenarios/verify.js';

const scenarios: readonly Scenario[] = [
  echo,
  verifyBearer,
  verifyHmac,
  nginxProxy,
  proxyBearer,
  proxyHmac,
  proxyDenied,
];
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

async function runAll(list: readonly Scenario[], stage: Stage, calm: Calm, options: BenchOptions): Promise<Run[]> {
  const runs: Run[] = [];
  for (let repetition = 1; repetition <= options.repetitions; repetition++) {
    for (const scenario of list) {
      await calm.wait(options.calmS * 1000);
      const before = calm.slowdown();
      const measured = await measure(scenario, stage, { ...options, profileDir: options.profile }, repetition);
      const run = { ...measured, slowdown: Math.max(before, calm.slowdown()) };
      runs.push(run);
      say(`${repetition}/${options.repetitions} ${scenario.name}: ${progress(run)}`);
      if (options.profile !== undefined && scenario.profiled) printProfile(options.profile, run);
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
  const stage = new Stage();
  const calm = new Calm();
  let runs: Run[];
  const bodies: BodyResult[] = [];
  try {
    runs = await runAll(list, stage, calm, options);
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
  const ratios = ratiosOf(runs);
  const conditions = conditionLines(machine, stage.cores, options, runs);
  const failures = failureLines(rows);
  const ratioTexts = ratioLines(ratios).map((line) => `CPU per request: ${line}`);
  const parts = [
    rows.length === 0 ? '' : terminalTable(rows),
    ...ratioTexts,
    ...bodyLines(bodies),
    ...failures,
    '',
    ...scenarioLines(list),
    '',
    ...conditions,
    ...(options.profile === undefined ? [] : ['Tollkeeper was profiled: its figures are too high.']),
  ];
  console.log(parts.join('\n'));
  if (options.json !== undefined) {
    const everything = { machine, cores: stage.cores, options, conditions, rows, ratios, bodies, runs };
    writeFileSync(options.json, `${JSON.stringify(everything, null, 2)}\n`);
  }
  if (options.markdown !== undefined) {
    const table = rows.length === 0 ? '' : markdownTable(rows);
    writeMarkdown(options.markdown, { table, ratios: ratioTexts, bodies: bodyLines(bodies), conditions, failures });
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
