/** What people are told of the usage of a token or tenant: `GET …/usage`, `tollkeeper usage`. */
import { quantilesMs } from './histogram.js';
import { addSums, callsOf, type Sums } from './sums.js';

/** A stretch of time in figures. Without calls there is no rate and no response time: null. */
export interface UsageSummary {
  readonly calls: number;
  /** Calls answered 2xx or 3xx. */
  readonly succeeded: number;
  /** `succeeded` of `calls`, 0 to 1. */
  readonly successRate: number | null;
  /** Calls by class of their status; `none`: the client left before there was one. */
  readonly byStatus: Readonly<Record<StatusClass, number>>;
  /** Requests by reason (the slug of the problem, or `client-closed`) that were not simply forwarded. */
  readonly refusals: Readonly<Record<string, number>>;
  readonly meanMs: number | null;
  /** Percentiles of the response time, ms, each within 4.4 % (src/usage/histogram.ts). */
  readonly p50Ms: number | null;
  readonly p95Ms: number | null;
  readonly p99Ms: number | null;
}

const statusClassNames = ['none', '1xx', '2xx', '3xx', '4xx', '5xx'] as const;
type StatusClass = (typeof statusClassNames)[number];

export interface UsageReport {
  readonly tenant: string;
  /** null: all tokens of the tenant, also those that are deleted. */
  readonly tokenId: string | null;
  /** RFC 3339; the last hour and day are not over yet. */
  readonly generatedAt: string;
  /** null: never, or longer than 400 days ago. */
  readonly lastUsed: { readonly at: string; readonly ip: string; readonly userAgent: string } | null;
  readonly lifetime: UsageSummary;
  readonly last24Hours: UsageSummary & {
    /** Oldest first, one for each of the 24 clock hours (UTC), the current one included. */
    readonly hours: readonly ({ readonly from: string } & UsageSummary)[];
  };
  readonly last30Days: UsageSummary & {
    /** Oldest first, one for each of the 30 days (UTC), the current one included. */
    readonly days: readonly ({ readonly date: string } & UsageSummary)[];
  };
  /** The most called routes of the lifetime, most calls first; at most 64 are told apart. */
  readonly topRoutes: readonly { readonly route: string; readonly calls: number }[];
  /** Calls of further routes. */
  readonly otherRoutesCalls: number;
}

/** What is stored of a token or tenant. Hours and days count from 1970. */
export interface StoredUsage {
  readonly lastUsed: { readonly atMs: number; readonly ip: string; readonly userAgent: string } | null;
  readonly hours: ReadonlyMap<number, Sums>;
  /** Without the hours in `hours`. */
  readonly days: ReadonlyMap<number, Sums>;
  /** Without the hours in `hours`. */
  readonly all: Sums;
  readonly routes: ReadonlyMap<string, number>;
  readonly otherRoutesCalls: number;
}

const hoursShown = 24;
const daysShown = 30;
const hourMs = 3_600_000;

/** The figures at `nowMs` (Unix). */
export function usageReport(tenant: string, tokenId: string | null, stored: StoredUsage, nowMs: number): UsageReport {
  const { lastUsed } = stored;
  const hourNow = Math.floor(nowMs / hourMs);
  const dayNow = Math.floor(hourNow / 24);
  const hours = sequence(hourNow, hoursShown).map((hour) => ({ hour, sums: addSums(present(stored.hours.get(hour))) }));
  const days = sequence(dayNow, daysShown).map((day) => {
    const itsHours = [...stored.hours].filter(([hour]) => Math.floor(hour / 24) === day).map(([, sums]) => sums);
    return { day, sums: addSums([...present(stored.days.get(day)), ...itsHours]) };
  });
  return {
    tenant,
    tokenId,
    generatedAt: new Date(nowMs).toISOString(),
    lastUsed: lastUsed && {
      at: new Date(lastUsed.atMs).toISOString(),
      ip: lastUsed.ip,
      userAgent: lastUsed.userAgent,
    },
    lifetime: summary(addSums([stored.all, ...stored.hours.values()])),
    last24Hours: {
      ...summary(addSums(hours.map(({ sums }) => sums))),
      hours: hours.map(({ hour, sums }) => ({ from: new Date(hour * hourMs).toISOString(), ...summary(sums) })),
    },
    last30Days: {
      ...summary(addSums(days.map(({ sums }) => sums))),
      days: days.map(({ day, sums }) => ({
        date: new Date(day * 24 * hourMs).toISOString().slice(0, 10),
        ...summary(sums),
      })),
    },
    topRoutes: [...stored.routes]
      .map(([route, calls]) => ({ route, calls }))
      .sort((a, b) => b.calls - a.calls || (a.route < b.route ? -1 : 1)),
    otherRoutesCalls: stored.otherRoutesCalls,
  };
}

function sequence(last: number, count: number): number[] {
  return Array.from({ length: count }, (_, place) => last - count + 1 + place);
}

function present(sums: Sums | undefined): Sums[] {
  return sums === undefined ? [] : [sums];
}

function summary(sums: Sums): UsageSummary {
  const calls = callsOf(sums);
  const succeeded = (sums.statusClasses[2] ?? 0) + (sums.statusClasses[3] ?? 0);
  const [p50Ms, p95Ms, p99Ms] = quantilesMs(sums.buckets, [0.5, 0.95, 0.99]).map(rounded);
  return {
    calls,
    succeeded,
    successRate: calls === 0 ? null : succeeded / calls,
    byStatus: Object.fromEntries(
      statusClassNames.map((name, digit) => [name, sums.statusClasses[digit] ?? 0]),
    ) as Record<StatusClass, number>,
    refusals: Object.fromEntries([...sums.outcomes].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1))),
    meanMs: calls === 0 ? null : rounded(sums.durationUs / 1000 / calls),
    p50Ms: p50Ms ?? null,
    p95Ms: p95Ms ?? null,
    p99Ms: p99Ms ?? null,
  };
}

/** To the microsecond. */
function rounded(ms: number | null): number | null {
  return ms === null ? null : Math.round(ms * 1000) / 1000;
}
