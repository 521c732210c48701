/** The rows as people read them: a table on the terminal, and the same in Markdown. */
import Table from 'cli-table3';
import type { BodyResult } from '../scenarios/proxy-body.js';
import type { Ratio, Row, Spread } from './summary.js';

const headings = [
  'scenario',
  'requests',
  'errors',
  'non-2xx',
  'req/s',
  'p50 ms',
  'p90 ms',
  'p99 ms',
  'CPU us/req',
  'Redis us/req',
  'Redis scripts/req',
  'Redis commands/req',
  'core busy',
  'RSS MiB',
  'runs',
];

/** The rows with box drawing. */
export function terminalTable(rows: readonly Row[]): string {
  const table = new Table({ head: headings.map(wrapped), style: { head: [], border: [] } });
  for (const row of rows) table.push(cells(row));
  return table.toString();
}

/** The rows in Markdown. */
export function markdownTable(rows: readonly Row[]): string {
  const line = (parts: readonly string[]): string => `| ${parts.join(' | ')} |`;
  const rule = headings.map((_, index) => (index === 0 ? '---' : '--:'));
  return [line(headings), line(rule), ...rows.map((row) => line(cells(row)))].join('\n');
}

/** One line a ratio. */
export function ratioLines(ratios: readonly Ratio[]): string[] {
  return ratios.map(({ name, value, target }) => {
    const text = `${name} = ${spread(value, 2)}`;
    return target === undefined
      ? text
      : `${text}, target at or below ${target}: ${value.median <= target ? 'met' : 'MISSED'}`;
  });
}

/** One line a failed run. */
export function failureLines(rows: readonly Row[]): string[] {
  return rows.flatMap((row) => row.failed.map((what) => `FAILED ${row.scenario}, ${what}`));
}

/** One line a body that was carried. */
export function bodyLines(results: readonly BodyResult[]): string[] {
  return results.map((result) => {
    if (result.faults.length > 0) return `FAILED ${result.scenario}: ${result.faults.join('; ')}`;
    const [growth, target] = [mib(result.rssGrowthBytes), mib(result.rssGrowthTargetBytes)];
    const verdict = result.rssGrowthBytes < result.rssGrowthTargetBytes ? 'met' : 'MISSED';
    return (
      `${result.scenario}: ${mib(result.bytes)} MiB in ${result.seconds.toFixed(2)} s ` +
      `(${Math.round(result.bytes / 2 ** 20 / result.seconds)} MiB/s, CPU ${result.cpuSeconds.toFixed(2)} s), ` +
      `RSS ${mib(result.rssBeforeBytes)} MiB + ${growth} MiB at its peak (target below ${target} MiB: ${verdict})`
    );
  });
}

function cells({ scenario, runs, failed, errors, requests, non2xx, figures }: Row): string[] {
  const count = failed.length === 0 ? String(runs) : `${runs - failed.length} of ${runs}, ${failed.length} FAILED`;
  if (figures === undefined) {
    return [scenario, '-', String(errors), ...Array<string>(headings.length - 4).fill('-'), 'FAILED'];
  }
  return [
    scenario,
    String(requests),
    String(errors),
    String(non2xx),
    spread(figures.requestsPerS, 0),
    spread(figures.p50Ms, 2),
    spread(figures.p90Ms, 2),
    spread(figures.p99Ms, 2),
    spread(figures.cpuUs, 1),
    optional(figures.redisCpuUs, 1),
    optional(figures.redisScripts, 3),
    optional(figures.redisCommands, 2),
    `${Math.round(figures.coresSubject.median * 100)}%`,
    String(mib(figures.rssBytes.median)),
    count,
  ];
}

/** Median, and behind it the least and the most when there was more than one run. */
function spread({ median, min, max }: Spread, digits: number): string {
  if (min === max) return median.toFixed(digits);
  return `${median.toFixed(digits)} (${min.toFixed(digits)}-${max.toFixed(digits)})`;
}

function optional(value: Spread, digits: number): string {
  return value.max === 0 ? '-' : spread(value, digits);
}

function mib(bytes: number): number {
  return Math.round(bytes / 2 ** 20);
}

function wrapped(heading: string): string {
  return heading.replace(' ', '\n');
}
