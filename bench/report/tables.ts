/** The figures as people read them: a table on the terminal, and the same in Markdown. */
import Table from 'cli-table3';
import type { BodyResult } from '../scenarios/proxy-body.js';
import { type Spread, spreadText } from './spread.js';
import type { Row } from './summary.js';
import { type JudgedTarget, loadName, verdictOf } from './targets.js';

const headings = [
  'scenario',
  'load',
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
  'loop delay p99 ms',
  'RSS MiB',
  'runs',
];
const targetHeadings = ['target', 'load', 'measured', 'at most', 'goal', 'verdict'];

/** The rows with box drawing. */
export function terminalTable(rows: readonly Row[]): string {
  return boxed(headings, rows.map(cells));
}

/** The rows in Markdown. */
export function markdownTable(rows: readonly Row[]): string {
  return marked(headings, rows.map(cells), 2);
}

/** Targets with box drawing. */
export function terminalTargets(targets: readonly JudgedTarget[]): string {
  return boxed(targetHeadings, targets.map(targetCells));
}

/** Targets in Markdown. */
export function markdownTargets(targets: readonly JudgedTarget[]): string {
  return marked(targetHeadings, targets.map(targetCells), 2);
}

/** One line a failed run. */
export function failureLines(rows: readonly Row[]): string[] {
  return rows.flatMap((row) => row.failed.map((what) => `FAILED ${row.scenario} (${loadName(row.rate)}), ${what}`));
}

/** One line a body that was carried. */
export function bodyLines(results: readonly BodyResult[]): string[] {
  return results.map((result) => {
    if (result.faults.length > 0) return `FAILED ${result.scenario}: ${result.faults.join('; ')}`;
    const [growth, target] = [mib(result.rssGrowthBytes), mib(result.rssGrowthTargetBytes)];
    const verdict = result.rssGrowthBytes < result.rssGrowthTargetBytes ? 'reached' : 'MISSED';
    return (
      `${result.scenario}: ${mib(result.bytes)} MiB in ${result.seconds.toFixed(2)} s ` +
      `(${Math.round(result.bytes / 2 ** 20 / result.seconds)} MiB/s, CPU ${result.cpuSeconds.toFixed(2)} s), ` +
      `RSS ${mib(result.rssBeforeBytes)} MiB + ${growth} MiB at its peak (target below ${target} MiB: ${verdict})`
    );
  });
}

function cells({ scenario, rate, runs, failed, errors, requests, non2xx, figures }: Row): string[] {
  const count = failed.length === 0 ? String(runs) : `${runs - failed.length} of ${runs}, ${failed.length} FAILED`;
  if (figures === undefined) {
    return [scenario, loadName(rate), '-', String(errors), ...Array<string>(headings.length - 5).fill('-'), 'FAILED'];
  }
  return [
    scenario,
    loadName(rate),
    String(requests),
    String(errors),
    String(non2xx),
    spreadText(figures.requestsPerS, 0),
    spreadText(figures.p50Ms, 2),
    spreadText(figures.p90Ms, 2),
    spreadText(figures.p99Ms, 2),
    spreadText(figures.cpuUs, 1),
    optional(figures.redisCpuUs, 1),
    optional(figures.redisScripts, 3),
    optional(figures.redisCommands, 2),
    `${Math.round(figures.coresSubject.median * 100)}%`,
    optional(figures.loopDelayMs, 1),
    String(mib(figures.rssBytes.median)),
    count,
  ];
}

function targetCells(target: JudgedTarget): string[] {
  const digits = target.unit === 'x' || target.unit === 'ms' ? 2 : 1;
  const withUnit = (text: string): string => `${text} ${target.unit}`;
  return [
    target.what,
    target.load,
    withUnit(spreadText(target.value, digits)),
    withUnit(String(target.most)),
    target.goal === undefined ? '-' : withUnit(String(target.goal)),
    verdictOf(target),
  ];
}

function boxed(head: readonly string[], rows: readonly string[][]): string {
  const table = new Table({ head: head.map((heading) => heading.replace(' ', '\n')), style: { head: [], border: [] } });
  for (const row of rows) table.push(row);
  return table.toString();
}

/** `textColumns`: so many columns from the left are text, the others are figures. */
function marked(head: readonly string[], rows: readonly string[][], textColumns: number): string {
  const line = (parts: readonly string[]): string => `| ${parts.join(' | ')} |`;
  const rule = head.map((_, index) => (index < textColumns ? '---' : '--:'));
  return [line(head), line(rule), ...rows.map(line)].join('\n');
}

function optional(value: Spread, digits: number): string {
  return value.max === 0 ? '-' : spreadText(value, digits);
}

function mib(bytes: number): number {
  return Math.round(bytes / 2 ** 20);
}
