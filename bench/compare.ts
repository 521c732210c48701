/**
 * What a change did: two commits of this repository, built and driven in turn by this benchmark.
 *
 * Each has its own Redis, filled by its own command line. Runs alternate, A B B A A B …, so that neither is always the
 * one that finds the machine rested; ratios are taken between neighbours. A run that is wrong is reported as FAILED and is
 * in no ratio; the exit code is then 1.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { mainScript } from '../test/support/cli.js';
import { Calm } from './harness/calm.js';
import { pin } from './harness/cores.js';
import { measure, type Run, type RunOptions } from './harness/measure.js';
import { Stage } from './harness/stage.js';
import { within } from './options.js';
import { spreadOf, spreadText } from './report/spread.js';
import { loadName } from './report/targets.js';
import { scenarios } from './scenarios/all.js';
import type { Scenario } from './scenarios/scenario.js';

interface Variant {
  readonly name: string;
  readonly stage: Stage;
  readonly runs: Run[];
}

/** Longest wait before a run for the machine to be calm. */
const calmMaxMs = 20_000;

const root = fileURLToPath(new URL('..', import.meta.url));
const worktrees: string[] = [];

const usage = `Usage: npm run bench:compare -- REVISION [REVISION] [options]
Without a second revision the first is compared with the working tree, as it was built last.
  --scenario NAME     compare by this one; may be repeated (verify-bearer and proxy-bearer)
  --rate N            requests/s over all connections; 0: a closed loop (0)
  --connections N     connections of the load generator (64)
  --repetitions N     runs of each, in turn (5)
  --duration S        measured seconds a run (4)
  --warmup S          seconds before them (2)`;

interface CompareOptions {
  readonly revisions: readonly [string, string | undefined];
  readonly compared: readonly Scenario[];
  readonly repetitions: number;
  readonly load: RunOptions;
}

/** @throws Error with one sentence when the arguments are wrong. */
function parseCompareOptions(argv: readonly string[]): CompareOptions | 'help' {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      help: { type: 'boolean', short: 'h' },
      scenario: { type: 'string', multiple: true, default: ['verify-bearer', 'proxy-bearer'] },
      rate: { type: 'string', default: '0' },
      repetitions: { type: 'string', default: '5' },
      duration: { type: 'string', default: '4' },
      warmup: { type: 'string', default: '2' },
      connections: { type: 'string', default: '64' },
    },
  });
  if (values.help === true) return 'help';
  const [first, second, ...further] = positionals;
  if (first === undefined || further.length > 0) {
    throw new Error('Which one or two revisions? npm run bench:compare -- REVISION [REVISION]');
  }
  const compared = values.scenario.map((name) => {
    const scenario = scenarios.find((each) => each.name === name);
    if (scenario === undefined || scenario.isPeer) {
      throw new Error(`Choose scenarios of Tollkeeper's own, not "${name}": see npm run bench -- --help.`);
    }
    return scenario;
  });
  return {
    revisions: [first, second],
    compared,
    repetitions: within('--repetitions', values.repetitions, 1, 100),
    load: {
      connections: within('--connections', values.connections, 1, 4000),
      durationS: within('--duration', values.duration, 1, 600),
      warmupS: within('--warmup', values.warmup, 1, 60),
      generator: 'sockets',
      rate: within('--rate', values.rate, 0, 1_000_000),
      profileDir: undefined,
    },
  };
}

/** Entry point of a revision, checked out and built in a folder of its own. */
function built(revision: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'tk-compare-'));
  const run = (file: string, args: readonly string[], cwd: string): void =>
    void execFileSync(file, args, { cwd, stdio: ['ignore', 'ignore', 'inherit'] });
  run('git', ['worktree', 'add', '--detach', '--force', folder, revision], root);
  worktrees.push(folder);
  const lock = (dir: string): string => readFileSync(join(dir, 'package-lock.json'), 'utf8');
  if (lock(folder) === lock(root)) symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  else run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], folder);
  run('npm', ['run', '--silent', 'build'], folder);
  return join(folder, 'dist/main.js');
}

/** Prints the ratios; answers whether all runs were right. */
function report(of: readonly [Variant, Variant], compared: readonly Scenario[]): boolean {
  let isRight = true;
  for (const { name } of compared) {
    const figures = of.map(({ runs }) => runs.filter((run) => run.scenario === name));
    const failed = figures.flat().filter((run) => run.faults.length > 0);
    isRight &&= failed.length === 0;
    for (const run of failed) console.log(`FAILED ${name}: ${run.faults.join('; ')}`);
    const [before = [], after = []] = figures;
    const pairs = before.flatMap((run, index) => {
      const other = after[index];
      const areGood = run.faults.length === 0 && other?.faults.length === 0;
      return areGood && run.figures !== undefined && other.figures !== undefined ? [[run.figures, other.figures]] : [];
    });
    if (pairs.length === 0) continue;
    for (const key of ['cpuUs', 'redisCpuUs', 'p99Ms'] as const) {
      const [left, right] = [0, 1].map((at) => spreadText(spreadOf(pairs.map((pair) => pair[at]?.[key] ?? 0)), 2));
      const ratio = spreadText(spreadOf(pairs.map((pair) => (pair[1]?.[key] ?? 0) / (pair[0]?.[key] ?? 0))), 3);
      console.log(`${name} ${key}: ${of[0].name} ${left}, ${of[1].name} ${right}, ratio ${ratio}`);
    }
  }
  return isRight;
}

async function main({ revisions, compared, repetitions, load }: CompareOptions): Promise<boolean> {
  const [first, second] = revisions;
  const variant = (name: string, program: string): Variant => ({ name, stage: new Stage(program), runs: [] });
  const variants: [Variant, Variant] = [
    variant(first, built(first)),
    second === undefined ? variant('working tree', mainScript) : variant(second, built(second)),
  ];
  // Off the measured core.
  pin(process.pid, variants[0].stage.cores.load);
  const calm = new Calm();
  try {
    for (let repetition = 1; repetition <= repetitions; repetition++) {
      for (const scenario of compared) {
        const inTurn = repetition % 2 === 1 ? variants : variants.toReversed();
        for (const { name: label, stage, runs } of inTurn) {
          await calm.wait(calmMaxMs);
          const run = { ...(await measure(scenario, stage, load, repetition)), slowdown: calm.slowdown() };
          runs.push(run);
          const result = run.faults.join('; ') || `${run.figures?.cpuUs.toFixed(2)} us/req`;
          process.stderr.write(
            `compare: ${repetition} ${scenario.name}, ${loadName(load.rate)}, ${label}: ${result}\n`,
          );
        }
      }
    }
  } finally {
    await Promise.all(variants.map(({ stage }) => stage.close()));
  }
  return report(variants, compared);
}

process.once('exit', () => {
  for (const folder of worktrees) {
    rmSync(folder, { recursive: true, force: true });
    execFileSync('git', ['worktree', 'prune'], { cwd: root });
  }
});
// The exit handlers then end the children and remove the folders.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

try {
  const options = parseCompareOptions(process.argv.slice(2));
  if (options === 'help') console.log(usage);
  else process.exitCode = (await main(options)) ? 0 : 1;
} catch (error) {
  process.stderr.write(`compare: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
}
