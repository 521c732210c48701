/** From runs to one row a scenario: medians and spread of the runs that were right, and the ratios between rows. */
import type { Figures, Run } from '../harness/measure.js';

/** Median, least and most of the runs that count. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export interface Row {
  readonly scenario: string;
  readonly runs: number;
  /** What was wrong, by run; such runs are in no figure. */
  readonly failed: readonly string[];
  readonly errors: number;
  /** Over all runs that count: answers in the measured windows, and those among them outside of 2xx. */
  readonly requests: number;
  readonly non2xx: number;
  /** Absent when no run counts. */
  readonly figures?: Readonly<Record<keyof Figures, Spread>>;
}

export interface Ratio {
  readonly name: string;
  readonly value: Spread;
  /** At or below; absent: none is set. */
  readonly target?: number;
}

const ratios: readonly { of: string; to: string; target?: number }[] = [
  { of: 'proxy-bearer', to: 'nginx-proxy', target: 2.5 },
  { of: 'proxy-bearer', to: 'echo' },
  { of: 'proxy-denied', to: 'echo' },
  { of: 'verify-bearer', to: 'echo', target: 2.5 },
  { of: 'verify-hmac', to: 'verify-bearer', target: 1.5 },
];

/** One row a scenario, in the order of their first runs. */
export function summarize(runs: readonly Run[]): Row[] {
  const names = [...new Set(runs.map((run) => run.scenario))];
  return names.map((name) =>
    summarizeScenario(
      name,
      runs.filter((run) => run.scenario === name),
    ),
  );
}

/**
 * CPU microseconds per request of one scenario by those of another: the median over the repetitions in which both
 * runs count. Such pairs ran one after the other, so that a slow spell of the machine meets both.
 */
export function ratiosOf(runs: readonly Run[]): Ratio[] {
  const counted = runs.filter((run) => run.faults.length === 0);
  return ratios.flatMap(({ of, to, target }) => {
    const values = counted.flatMap(({ scenario, repetition, figures }) => {
      const other = counted.find((run) => run.scenario === to && run.repetition === repetition)?.figures;
      return scenario !== of || figures === undefined || other === undefined ? [] : [figures.cpuUs / other.cpuUs];
    });
    if (values.length === 0) return [];
    const ratio = { name: `${of} / ${to}`, value: spreadOf(values) };
    return [target === undefined ? ratio : { ...ratio, target }];
  });
}

function summarizeScenario(scenario: string, runs: readonly Run[]): Row {
  const good = runs.filter((run) => run.faults.length === 0);
  const figures = good.flatMap((run) => run.figures ?? []);
  const row = {
    scenario,
    runs: runs.length,
    failed: runs.filter((run) => run.faults.length > 0).map((run) => `run ${run.repetition}: ${run.faults.join('; ')}`),
    errors: runs.reduce((sum, run) => sum + run.errors, 0),
    requests: figures.reduce((sum, each) => sum + each.requests, 0),
    non2xx: good.reduce((sum, run) => sum + run.non2xx, 0),
  };
  const [first] = figures;
  if (first === undefined) return row;
  const names = Object.keys(first) as (keyof Figures)[];
  const spreads = names.map((name) => [name, spreadOf(figures.map((each) => each[name]))]);
  return { ...row, figures: Object.fromEntries(spreads) as Record<keyof Figures, Spread> };
}

function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((left, right) => left - right);
  const at = (index: number): number => sorted[index] ?? 0;
  const half = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? at(half) : (at(half - 1) + at(half)) / 2;
  return { median, min: at(0), max: at(sorted.length - 1) };
}
