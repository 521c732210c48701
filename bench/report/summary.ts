/** From runs to one row a scenario and load: medians and spread of the runs that were right. */
import type { Figures, Run } from '../harness/measure.js';
import { type Spread, spreadOf } from './spread.js';

export interface Row {
  readonly scenario: string;
  /** Requests a second, 0: closed loop. */
  readonly rate: number;
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

/** One row a scenario and load: closed loops first, scenarios in the order of their first runs. */
export function summarize(runs: readonly Run[]): Row[] {
  const names = [...new Set(runs.map((run) => run.scenario))];
  const rates = [...new Set(runs.map((run) => run.rate))].sort((left, right) => left - right);
  return rates.flatMap((rate) =>
    names.flatMap((name) => {
      const own = runs.filter((run) => run.scenario === name && run.rate === rate);
      return own.length === 0 ? [] : [summarizeRuns(name, rate, own)];
    }),
  );
}

function summarizeRuns(scenario: string, rate: number, runs: readonly Run[]): Row {
  const good = runs.filter((run) => run.faults.length === 0);
  const figures = good.flatMap((run) => run.figures ?? []);
  const row = {
    scenario,
    rate,
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
