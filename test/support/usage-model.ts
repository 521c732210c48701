/** Usage computed from every single request, with nothing but counting and sorting: what the stored sums must amount to. */
import { expect } from 'vitest';
import { isTokenUse, type LogEntry } from '../../src/accesslog/entry.js';
import { relativeErrorMax } from '../../src/usage/histogram.js';
import type { UsageReport, UsageSummary } from '../../src/usage/report.js';

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

/** Compares every figure of a report with the requests that it must come from; `nowMs` is when it was made. */
export function expectUsage(report: UsageReport, entries: readonly LogEntry[], nowMs: number): void {
  expectSummary(report.lifetime, entries);
  const hourNow = Math.floor(nowMs / hourMs);
  const dayNow = Math.floor(nowMs / dayMs);
  const hourOf = (entry: LogEntry): number => Math.floor(entry.timeMs / hourMs);
  const dayOf = (entry: LogEntry): number => Math.floor(entry.timeMs / dayMs);
  expectSummary(
    report.last24Hours,
    entries.filter((entry) => hourOf(entry) > hourNow - 24 && hourOf(entry) <= hourNow),
  );
  expectSummary(
    report.last30Days,
    entries.filter((entry) => dayOf(entry) > dayNow - 30 && dayOf(entry) <= dayNow),
  );
  expect([report.last24Hours.hours.length, report.last30Days.days.length]).toEqual([24, 30]);
  for (const { from, ...summary } of report.last24Hours.hours) {
    expectSummary(
      summary,
      entries.filter((entry) => hourOf(entry) * hourMs === Date.parse(from)),
    );
  }
  for (const { date, ...summary } of report.last30Days.days) {
    expectSummary(
      summary,
      entries.filter((entry) => dayOf(entry) * dayMs === Date.parse(`${date}T00:00:00Z`)),
    );
  }
  const calls = entries.filter(isTokenUse);
  const latest = Math.max(0, ...calls.map(({ timeMs }) => Math.floor(timeMs)));
  expect(report.lastUsed === null ? 0 : Date.parse(report.lastUsed.at)).toBe(latest);
  const byRoute = countBy(calls.filter(({ route }) => route !== '').map(({ route }) => route));
  const told = report.topRoutes.reduce((sum, route) => sum + route.calls, 0);
  expect(told + report.otherRoutesCalls).toBe(Object.values(byRoute).reduce((sum, count) => sum + count, 0));
  if (report.otherRoutesCalls === 0) {
    expect(Object.fromEntries(report.topRoutes.map(({ route, calls }) => [route, calls]))).toEqual(byRoute);
  }
}

function expectSummary(summary: UsageSummary, entries: readonly LogEntry[]): void {
  const calls = entries.filter(isTokenUse);
  const classOf = ({ status }: LogEntry): string => (status < 100 ? 'none' : `${Math.floor(status / 100)}xx`);
  const byStatus = { none: 0, '1xx': 0, '2xx': 0, '3xx': 0, '4xx': 0, '5xx': 0, ...countBy(calls.map(classOf)) };
  const succeeded = byStatus['2xx'] + byStatus['3xx'];
  const refusals = countBy(entries.filter(({ outcome }) => outcome !== 'ok').map(({ outcome }) => outcome));
  const { calls: counted, succeeded: good, successRate, byStatus: classes, refusals: reasons } = summary;
  expect({ counted, good, successRate, classes, reasons }).toEqual({
    counted: calls.length,
    good: succeeded,
    successRate: calls.length === 0 ? null : succeeded / calls.length,
    classes: byStatus,
    reasons: refusals,
  });
  const sorted = calls.map(({ durationMs }) => Math.round(durationMs * 1000) / 1000).sort((a, b) => a - b);
  const mean = sorted.reduce((sum, ms) => sum + ms, 0) / sorted.length;
  if (sorted.length === 0) expect(summary.meanMs).toBeNull();
  else expect(summary.meanMs).toBeCloseTo(mean, 2);
  for (const [quantile, answered] of [
    [0.5, summary.p50Ms],
    [0.95, summary.p95Ms],
    [0.99, summary.p99Ms],
  ] as const) {
    const exact = sorted[Math.max(1, Math.ceil(quantile * sorted.length)) - 1];
    if (exact === undefined) expect(answered).toBeNull();
    // Rounded to the microsecond, and below 0.064 ms told as that.
    else
      expect(Math.abs((answered ?? -1) - exact)).toBeLessThanOrEqual(Math.max(0.065, exact * relativeErrorMax + 0.001));
  }
}

function countBy(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}
