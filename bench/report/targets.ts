/**
 * What the project wants to reach, and whether this benchmark says it does. Ratios are taken between runs of the same
 * repetition and the same load, then their median; a target that holds at saturation and misses at the fixed rate is
 * missed there.
 */
import type { Figures, Run } from '../harness/measure.js';
import { type Spread, spreadOf } from './spread.js';

interface Target {
  readonly what: string;
  readonly most: number;
  /** Better than that, and the aim; absent: there is none. */
  readonly goal?: number;
  readonly unit: 'x' | 'us' | 'ms' | 'MiB';
  /** At which loads it is judged: closed loop, fixed rate, or both. */
  readonly loads: readonly ('closed' | 'fixed')[];
  /** One value for each repetition; `find` answers the figures of a scenario in it. */
  value(find: (scenario: string) => Figures | undefined): number | undefined;
}

export interface JudgedTarget {
  readonly what: string;
  readonly load: string;
  readonly unit: Target['unit'];
  readonly most: number;
  readonly goal?: number;
  readonly value: Spread;
}

type Find = Parameters<Target['value']>[0];

const cpuRatio =
  (of: string, to: string) =>
  (find: Find): number | undefined => {
    const [one, other] = [find(of), find(to)];
    return one === undefined || other === undefined ? undefined : one.cpuUs / other.cpuUs;
  };

const bothLoads = ['closed', 'fixed'] as const;
/** Every scenario in which Tollkeeper asks Redis. */
const ofTollkeeper = [
  'verify-bearer',
  'verify-bearer-leased',
  'verify-hmac',
  'proxy-bearer',
  'proxy-bearer-leased',
  'proxy-hmac',
  'proxy-denied',
  'proxy-bearer-scraped',
  'proxy-body-1m',
  'tokens-1m',
  'tokens-1m-even',
];

function cpuTarget(of: string, to: string, most: number, goal?: number): Target {
  const what = `CPU of ${of} by that of ${to}`;
  return { what, most, ...(goal === undefined ? {} : { goal }), unit: 'x', loads: bothLoads, value: cpuRatio(of, to) };
}

const targets: readonly Target[] = [
  cpuTarget('proxy-bearer', 'nginx-lua-redis', 0.65, 0.5),
  cpuTarget('proxy-bearer', 'nginx-proxy', 1.6, 1.25),
  cpuTarget('proxy-bearer', 'fastify', 0.25, 0.2),
  cpuTarget('verify-bearer', 'echo', 2.5, 2),
  cpuTarget('verify-hmac', 'verify-bearer', 1.5),
  cpuTarget('proxy-denied', 'echo', 1.8, 1.5),
  cpuTarget('proxy-hmac', 'proxy-bearer', 1.4, 1.25),
  cpuTarget('tokens-1m', 'proxy-bearer', 1.15, 1.05),
  ...ofTollkeeper.map(
    (name): Target => ({
      what: `CPU of Redis per request, ${name}`,
      most: 12,
      goal: 8,
      unit: 'us',
      loads: bothLoads,
      value: (find) => find(name)?.redisCpuUs,
    }),
  ),
  {
    what: 'p99 of proxy-bearer less that of nginx-proxy',
    most: 1,
    goal: 0.5,
    unit: 'ms',
    loads: ['fixed'],
    value(find) {
      const [ours, floor] = [find('proxy-bearer'), find('nginx-proxy')];
      return ours === undefined || floor === undefined ? undefined : ours.p99Ms - floor.p99Ms;
    },
  },
  {
    what: 'p99 while /metrics is scraped by p99 while it is not',
    most: 1.1,
    unit: 'x',
    loads: ['fixed'],
    value(find) {
      const [scraped, plain] = [find('proxy-bearer-scraped'), find('proxy-bearer')];
      return scraped === undefined || plain === undefined ? undefined : scraped.p99Ms / plain.p99Ms;
    },
  },
  {
    what: 'resident memory of tokens-1m',
    most: 256,
    goal: 160,
    unit: 'MiB',
    loads: ['closed'],
    value(find) {
      const figures = find('tokens-1m');
      return figures === undefined ? undefined : figures.rssBytes / 2 ** 20;
    },
  },
];

/** Every target that these runs say something about, by load. */
export function judgeTargets(runs: readonly Run[]): JudgedTarget[] {
  const counted = runs.filter((run) => run.faults.length === 0);
  const rates = [...new Set(counted.map((run) => run.rate))].sort((left, right) => left - right);
  return targets.flatMap((target) =>
    rates.flatMap((rate) => {
      if (!target.loads.includes(rate === 0 ? 'closed' : 'fixed')) return [];
      const ofRate = counted.filter((run) => run.rate === rate);
      const values = [...new Set(ofRate.map((run) => run.repetition))].flatMap((repetition) => {
        const find: Find = (name) =>
          ofRate.find((run) => run.scenario === name && run.repetition === repetition)?.figures;
        return target.value(find) ?? [];
      });
      if (values.length === 0) return [];
      const { what, most, goal, unit } = target;
      const judged = { what, load: loadName(rate), unit, most, value: spreadOf(values) };
      return [goal === undefined ? judged : { ...judged, goal }];
    }),
  );
}

/** `closed loop`, `2000/s`. */
export function loadName(rate: number): string {
  return rate === 0 ? 'closed loop' : `${rate}/s`;
}

/** The verdict in a word. */
export function verdictOf({ value, most, goal }: JudgedTarget): string {
  if (goal !== undefined && value.median <= goal) return 'reached, and the goal';
  return value.median <= most ? 'reached' : 'MISSED';
}
