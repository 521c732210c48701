/** The command line of the benchmark. */
import { parseArgs } from 'node:util';
import type { GeneratorName } from './load/load.js';

export interface BenchOptions {
  /** Names; empty: all that are not peers (and the peers with `peers`). */
  readonly scenarios: readonly string[];
  readonly peers: boolean;
  readonly durationS: number;
  readonly warmupS: number;
  readonly connections: number;
  readonly generator: GeneratorName;
  /** Requests a second that are sent whatever the answers do; 0 stands for a closed loop. Each is a run of its own. */
  readonly rates: readonly number[];
  readonly repetitions: number;
  /** Seconds that a run waits at most for the machine to be idle and at full speed. */
  readonly calmS: number;
  /** File for every figure of every run. */
  readonly json: string | undefined;
  /** `json` holds earlier runs of this session: they stay, and count in all figures. */
  readonly append: boolean;
  /** Markdown file whose marked part is replaced by this run. */
  readonly markdown: string | undefined;
  /** Folder for CPU profiles of Tollkeeper. */
  readonly profile: string | undefined;
}

export const usage = `Usage: npm run bench -- [options]
  --scenario NAME     run this one; may be repeated (default: all but the peers and the bodies of 1 GiB)
  --peers             also the peers
  --duration S        measured seconds a run (8)
  --warmup S          seconds before them, in a closed loop; a fixed rate then has one more at the rate (3)
  --connections N     connections of the load generator (64)
  --rate N            requests/s over all connections, whatever the answers do; 0: a closed loop, each connection as
                      fast as it is answered; may be repeated: a run each (0 and 2000)
  --generator NAME    sockets, or autocannon: closed loop, no signed requests (sockets)
  --repetitions N     runs a scenario, interleaved (3); 0: only report what the JSON file holds (with --append)
  --calm S            seconds a run waits at most until the machine is idle and at full speed (20)
  --json FILE         write every figure of every run
  --append            keep the runs that are in the JSON file already: a long benchmark can be made in pieces
  --markdown FILE     replace the part of FILE between the bench markers, and write its plots beside it
  --profile DIR       write CPU profiles of Tollkeeper and print its most expensive functions; figures then tell nothing`;

/** Reads the arguments. @throws Error with one sentence when they are wrong. */
export function parseOptions(argv: readonly string[]): BenchOptions | 'help' {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      help: { type: 'boolean', short: 'h' },
      scenario: { type: 'string', multiple: true },
      peers: { type: 'boolean', default: false },
      duration: { type: 'string', default: '8' },
      warmup: { type: 'string', default: '3' },
      connections: { type: 'string', default: '64' },
      rate: { type: 'string', multiple: true, default: ['0', '2000'] },
      append: { type: 'boolean', default: false },
      generator: { type: 'string', default: 'sockets' },
      repetitions: { type: 'string', default: '3' },
      calm: { type: 'string', default: '20' },
      json: { type: 'string' },
      markdown: { type: 'string' },
      profile: { type: 'string' },
    },
  });
  if (values.help === true) return 'help';
  if (values.append && values.json === undefined) throw new Error('--append needs --json.');
  if (values.profile !== undefined && values.markdown !== undefined) {
    throw new Error('--profile and --markdown exclude each other: profiling costs CPU that would be reported.');
  }
  return {
    scenarios: values.scenario ?? [],
    peers: values.peers,
    durationS: within('--duration', values.duration, 1, 600),
    warmupS: within('--warmup', values.warmup, 1, 60),
    connections: within('--connections', values.connections, 1, 4000),
    rates: values.rate.map((rate) => within('--rate', rate, 0, 1_000_000)),
    generator: generatorOf(values.generator),
    repetitions: within('--repetitions', values.repetitions, 0, 100),
    calmS: within('--calm', values.calm, 0, 3600),
    json: values.json,
    append: values.append,
    markdown: values.markdown,
    profile: values.profile,
  };
}

/** How earlier pieces of a benchmark were measured, as far as `later` differs from it; '' when it does not. */
export function differenceOf(earlier: BenchOptions, later: BenchOptions): string {
  const pairs: readonly (readonly [string, string | number, string | number])[] = [
    ['--duration', earlier.durationS, later.durationS],
    ['--warmup', earlier.warmupS, later.warmupS],
    ['--connections', earlier.connections, later.connections],
    ['--generator', earlier.generator, later.generator],
  ];
  const different = pairs.filter(([, one, other]) => one !== other);
  return different.map(([name, one]) => `${name} ${one}`).join(' ');
}

/** A whole number on the command line. @throws Error with one sentence when it is none, or out of its bounds. */
export function within(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new Error(`${name} must be a whole number from ${min} to ${max}, not "${text}".`);
  }
  return value;
}

function generatorOf(text: string): GeneratorName {
  if (text === 'sockets' || text === 'autocannon') return text;
  throw new Error(`--generator must be sockets or autocannon, not "${text}".`);
}
