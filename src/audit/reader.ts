/** Reads the audit stream: a page at a time, newest first, with filters. */
import { type AuditEntry, type AuditRecord, entryOf, recordOf } from './record.js';
import { keys } from '../redis/keys.js';
import type { Store } from '../redis/store.js';

/** Every part may be left out; all that are given must hold. */
export interface AuditFilter {
  readonly tenant?: string | undefined;
  /** Whole (`token.revoke`) or the kind (`token`). */
  readonly action?: string | undefined;
  readonly actor?: string | undefined;
  readonly target?: string | undefined;
  readonly result?: string | undefined;
  /** ms since 1970, inclusive. */
  readonly fromMs?: number | undefined;
  /** ms since 1970, exclusive. */
  readonly toMs?: number | undefined;
}

export interface AuditPage {
  readonly records: readonly AuditRecord[];
  /** Records of all pages. */
  readonly total: number;
}

/** Entries asked for in one command: a few ms of Redis' time at most. */
const stepEntries = 500;

/**
 * One page, newest first; `page` counts from 1. A filter looks through the whole stream, {@link stepEntries} at a time;
 * without one only the page is read.
 * @throws StoreUnavailableError.
 */
export async function readAudit(store: Store, filter: AuditFilter, page: number, perPage: number): Promise<AuditPage> {
  const first = (page - 1) * perPage;
  const matches = matcherOf(filter);
  if (matches === undefined) return readUnfiltered(store, first, perPage);
  const found: AuditEntry[] = [];
  let total = 0;
  for await (const step of scanBackwards(store)) {
    for (const entry of step) {
      if (!matches(entry)) continue;
      if (total >= first && found.length < perPage) found.push(entry);
      total += 1;
    }
  }
  return { records: found.map(recordOf), total };
}

/** The stream from its beginning, oldest first, {@link stepEntries} at a time. */
export async function* scanForwards(store: Store): AsyncGenerator<readonly AuditEntry[]> {
  let from = '-';
  for (;;) {
    const step = await store.ask(() => store.redis.xrange(keys.audit(), from, '+', 'COUNT', stepEntries));
    if (step.length === 0) return;
    yield step.map(entryOf);
    from = `(${(step.at(-1) as [string, string[]])[0]}`;
  }
}

/** Asked for what is before its first entry, Redis goes through the whole stream from its end: never done here. */
async function* scanBackwards(store: Store): AsyncGenerator<readonly AuditEntry[]> {
  const [[oldest] = []] = await store.ask(() => store.redis.xrange(keys.audit(), '-', '+', 'COUNT', 1));
  let to = '+';
  for (;;) {
    const step = await store.ask(() => store.redis.xrevrange(keys.audit(), to, '-', 'COUNT', stepEntries));
    if (step.length === 0) return;
    yield step.map(entryOf);
    const last = (step.at(-1) as [string, string[]])[0];
    if (last === oldest) return;
    to = `(${last}`;
  }
}

/** Sequence numbers have no gap, so that a page is found by counting from the newest. */
async function readUnfiltered(store: Store, first: number, perPage: number): Promise<AuditPage> {
  const { redis } = store;
  const [newest, total] = await store.ask(() =>
    Promise.all([redis.xrevrange(keys.audit(), '+', '-', 'COUNT', 1), redis.xlen(keys.audit())]),
  );
  const last = newest[0] === undefined ? 0 : entryOf(newest[0]).seq;
  if (first >= total) return { records: [], total };
  const to = `${last - first}-0`;
  const entries = await store.ask(() => redis.xrevrange(keys.audit(), to, '-', 'COUNT', perPage));
  return { records: entries.map((entry) => recordOf(entryOf(entry))), total };
}

function matcherOf(filter: AuditFilter): ((entry: AuditEntry) => boolean) | undefined {
  const { tenant, action, actor, target, result, fromMs, toMs } = filter;
  if (Object.values(filter).every((value) => value === undefined)) return undefined;
  return ({ texts }) =>
    (tenant === undefined || texts.tenant === tenant) &&
    (action === undefined || texts.action === action || texts.action.startsWith(`${action}.`)) &&
    (actor === undefined || texts.actor === actor) &&
    (target === undefined || texts.target === target) &&
    (result === undefined || texts.result === result) &&
    (fromMs === undefined || Number(texts.at) >= fromMs) &&
    (toMs === undefined || Number(texts.at) < toMs);
}
