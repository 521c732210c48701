/**
 * One page of a tenant's access log, newest first, over any number of days, and the cursor that leads to the next.
 *
 * Bounded: a page asks Redis for {@link examinedMax} entries at most. Where little matches, it ends before it is full,
 * says so (`complete: false`) and hands a cursor to go on from there.
 */
import { createHash } from 'node:crypto';
import type { RedisConnection } from '../redis/target.js';
import { OperatorError } from '../core/failure.js';
import { dayMs, dayOf } from './entry.js';
import { type LogFilter, type LoggedEntry, matches } from './logged-entry.js';
import { scanDayBackward } from './scan.js';

export interface PageQuery {
  /** Slug, '' for requests of no known tenant. */
  readonly tenant: string;
  /** Time of the requests, Unix ms, inclusive; undefined: as far back as there is a log, or until now. */
  readonly fromMs?: number | undefined;
  readonly toMs?: number | undefined;
  readonly filter: LogFilter;
  /** Entries of a page, at least 1. */
  readonly limit: number;
  /** Of the page before; only good for the same query (the limit may change). */
  readonly cursor?: string | undefined;
}

export interface LogPage {
  readonly entries: readonly LoggedEntry[];
  /** null: there is nothing older. */
  readonly nextCursor: string | null;
  /** The page is full, or there is nothing older. False: look on with the cursor. */
  readonly complete: boolean;
}

/** A cursor that is none, or belongs to another query. */
export class InvalidCursorError extends OperatorError {}

/** Entries that one page looks at: about 100 ms of work here, none of it in one piece in Redis. */
const examinedMax = 10_000;

/**
 * Reads a page. `retentionDays` bounds how far back there can be a log.
 * @throws InvalidCursorError; else what the connection says.
 */
export async function readPage(
  redis: RedisConnection,
  query: PageQuery,
  nowMs: number,
  retentionDays: number,
): Promise<LogPage> {
  const { tenant, filter, limit } = query;
  const position = query.cursor === undefined ? undefined : positionOf(query.cursor, query);
  // A sidecar's clock may be ahead of ours.
  const toMs = Math.min(query.toMs ?? Number.POSITIVE_INFINITY, nowMs + dayMs);
  const fromMs = Math.max(query.fromMs ?? 0, nowMs - (retentionDays + 1) * dayMs);
  const entries: LoggedEntry[] = [];
  let last: Position | undefined;
  let examined = 0;
  for (let day = Math.min(dayOf(toMs), position?.day ?? dayOf(toMs)); day >= dayOf(fromMs); day -= 1) {
    const before = day === position?.day ? position.id : undefined;
    for await (const step of scanDayBackward(redis, { tenant, day, fromMs, toMs, before, tokenId: filter.tokenId })) {
      examined += step.examined;
      for (const entry of step.entries) {
        const timeMs = Date.parse(entry.time);
        if (timeMs < fromMs || timeMs > toMs || !matches(entry, filter)) continue;
        // One more than the page holds proves that there is something older.
        if (entries.length === limit && last !== undefined) {
          return { entries, nextCursor: cursorText(last, query), complete: true };
        }
        entries.push(entry);
        last = { day, id: entry.id };
      }
      if (examined >= examinedMax) {
        return { entries, nextCursor: cursorText({ day, id: step.position }, query), complete: false };
      }
    }
  }
  return { entries, nextCursor: null, complete: true };
}

/** The next page begins with what was written before this entry of this day. */
interface Position {
  readonly day: number;
  readonly id: string;
}

/** A cursor says where, and by a digest for which query: it opens nothing that the query itself does not. */
function cursorText({ day, id }: Position, query: PageQuery): string {
  return Buffer.from(`1.${day}.${id}.${digestOf(query)}`).toString('base64url');
}

function positionOf(cursor: string, query: PageQuery): Position {
  const [, day, id, digest] =
    /^1\.(\d{1,6})\.(\d{1,15}-\d{1,15})\.([0-9a-f]{16})$/.exec(Buffer.from(cursor, 'base64url').toString('latin1')) ??
    [];
  if (day === undefined || id === undefined) {
    throw new InvalidCursorError(
      'The cursor is not one: take it from the answer before, or leave it out to begin anew.',
    );
  }
  if (digest !== digestOf(query)) {
    throw new InvalidCursorError(
      'The cursor belongs to another query: repeat the filters it was answered to, or leave it out to begin anew.',
    );
  }
  return { day: Number(day), id };
}

function digestOf({ tenant, fromMs, toMs, filter }: PageQuery): string {
  const { tokenId, status, pathPrefix, method, ip } = filter;
  const asked = [tenant, fromMs, toMs, tokenId, status?.from, status?.to, pathPrefix, method, ip];
  const text = JSON.stringify(asked.map((value) => value ?? null));
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
