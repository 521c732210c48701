/** An entry of the access log as it is read back, and what it may be asked for. */
import { keys } from '../redis/keys.js';
import { noTenant } from './batch.js';
import { dayName, type EntryFields, gapOutcome } from './entry.js';

/** An entry as it was read. */
export interface LoggedEntry extends EntryFields {
  /** Id in its stream: ms of writing and a counter, `1732300000000-0`. */
  readonly id: string;
  /** RFC 3339, UTC. */
  readonly time: string;
  /** In a gap record (outcome `log-gap`): entries that are missing; else 0. */
  readonly dropped: number;
  /** `writer:first:count` in the first record of a batch, '' in the others; undefined: from before records were numbered. */
  readonly batch: string | undefined;
}

/** What an entry must be like; a gap record passes every filter, since nobody knows what is missing. */
export interface LogFilter {
  readonly tokenId?: string | undefined;
  /** Inclusive. */
  readonly status?: { readonly from: number; readonly to: number } | undefined;
  readonly pathPrefix?: string | undefined;
  readonly method?: string | undefined;
  /** As it is logged. */
  readonly ip?: string | undefined;
}

/** Key of a tenant's stream; '' stands for requests of no known tenant. */
export function streamOf(tenant: string, day: number): string {
  return keys.log(tenant === '' ? noTenant : tenant, dayName(day));
}

/** An entry from the fields of its stream. A field that is missing is '' or 0. */
export function entryOf(id: string, fields: readonly string[]): LoggedEntry {
  const text = (name: string): string => {
    const place = fields.indexOf(name);
    // A value may be spelt like a name: names stand at even places.
    if (place % 2 === 0) return fields[place + 1] ?? '';
    for (let at = 0; at + 1 < fields.length; at += 2) if (fields[at] === name) return fields[at + 1] as string;
    return '';
  };
  const number = (name: string): number => Number(text(name)) || 0;
  return {
    id,
    time: text('time'),
    requestId: text('requestId'),
    tenant: text('tenant'),
    tokenId: text('tokenId'),
    method: text('method'),
    path: text('path'),
    route: text('route'),
    status: number('status'),
    outcome: text('outcome'),
    durationMs: number('durationMs'),
    upstreamMs: number('upstreamMs'),
    bytesIn: number('bytesIn'),
    bytesOut: number('bytesOut'),
    ip: text('ip'),
    userAgent: text('userAgent'),
    dropped: number('dropped'),
    batch: fields.includes('batch') ? text('batch') : undefined,
  };
}

/** True when the entry is one that is asked for. */
export function matches(entry: LoggedEntry, filter: LogFilter): boolean {
  if (entry.outcome === gapOutcome) return true;
  const { tokenId, status, pathPrefix, method, ip } = filter;
  if (tokenId !== undefined && entry.tokenId !== tokenId) return false;
  if (status !== undefined && (entry.status < status.from || entry.status > status.to)) return false;
  if (method !== undefined && entry.method !== method) return false;
  if (ip !== undefined && entry.ip !== ip) return false;
  return pathPrefix === undefined || entry.path.startsWith(pathPrefix);
}

/** What people are shown of an entry, by CLI and API; a gap record has nothing but its time and what is missing. */
export type LogEntryView =
  | Omit<LoggedEntry, 'dropped' | 'batch'>
  | Pick<LoggedEntry, 'id' | 'time' | 'tenant' | 'outcome' | 'dropped'>;

export function entryView(entry: LoggedEntry): LogEntryView {
  const { id, time, tenant, outcome, dropped, batch: _batch, ...rest } = entry;
  return outcome === gapOutcome ? { id, time, tenant, outcome, dropped } : { id, time, tenant, outcome, ...rest };
}

/** Order of two ids of one stream: by the ms of writing, then by the counter. */
export function compareIds(a: string, b: string): number {
  const [aMs, aCount] = a.split('-');
  const [bMs, bCount] = b.split('-');
  return Number(aMs) - Number(bMs) || Number(aCount) - Number(bCount);
}

/** The ms of writing in an id. */
export function idMs(id: string): number {
  return Number.parseInt(id, 10);
}
