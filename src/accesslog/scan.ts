/**
 * Reads the stream of one tenant and day in steps that are small for Redis: at most {@link stepEntries} entries a call, so
 * that none holds it for more than about a millisecond.
 *
 * An entry stands in the stream of the day on which its request arrived, in the order in which batches were written.
 * Its id (the time of writing, of Redis' clock) is therefore a little later than its `time`: usually by the flush
 * interval, by minutes after an outage. `lateMs` in the totals of the day is the longest that an entry of it waited, when
 * that was over a minute; with it a stretch of time is found by ids without missing a late entry.
 *
 * For one token the index of the day says where its entries stand (docs/adr/0015); only those places are read. The
 * index holds the newest records of a busy token: before them the stream itself is read, which finds the entries of a
 * busy token soon. Gap records have an index of their own, since they answer every question.
 */
import type { RedisConnection } from '../redis/target.js';
import { keys } from '../redis/keys.js';
import { indexRecordsMax, noTenant } from './batch.js';
import { dayName, gapOutcome } from './entry.js';
import { compareIds, entryOf, idMs, type LoggedEntry, streamOf } from './logged-entry.js';

export interface DayScan {
  /** Slug, '' for requests of no known tenant. */
  readonly tenant: string;
  readonly day: number;
  /** Time of the requests, Unix ms; leaves out what cannot lie within by its id, and may leave in more. */
  readonly fromMs: number;
  readonly toMs: number;
  /** Id of the stream: only what was written before. */
  readonly before?: string | undefined;
  /** Leaves out entries of other tokens, but no gap records. */
  readonly tokenId?: string | undefined;
}

export interface ScanStep {
  readonly entries: readonly LoggedEntry[];
  /** Entries that Redis was asked for, those of other tokens included. */
  readonly examined: number;
  /** Everything of the stream up to here (in the direction of the scan) has been seen. */
  readonly position: string;
}

/** Entries of one call. */
const stepEntries = 250;
/** Of a record in the index: see lua/log-append.lua. */
const indexRecordBytes = 12;
/** How far the clock of a sidecar may be ahead of Redis', ms. */
const clockToleranceMs = 5 * 60_000;
/** An entry waits less than this unless the totals of its day say more; as in lua/log-append.lua. */
const waitedUsuallyMs = 60_000;

/** Newest first. */
export async function* scanDayBackward(redis: RedisConnection, scan: DayScan): AsyncGenerator<ScanStep> {
  const place = await placeOf(redis, scan);
  if (place.indexed && scan.tokenId !== undefined) {
    const index = await readIndex(redis, scan, scan.tokenId);
    const within = index.records.filter((record) => isWithin(record, place)).toReversed();
    for (let at = 0; at < within.length; ) {
      const records = partOf(within, at);
      at += records.length;
      const step = await readRecords(redis, place, records, scan.tokenId);
      yield { ...step, entries: step.entries.toReversed(), position: (records.at(-1) as IndexRecord).first };
    }
    if (index.reachesBack) return;
    place.before = earlier(place.before, index.oldest);
  }
  const [[oldest] = []] = await redis.xrange(place.stream, '-', '+', 'COUNT', 1);
  if (oldest === undefined) return;
  // Asked for what is before its first entry, Redis goes through the whole stream from its end and finds nothing.
  while (isBehind(oldest, place)) {
    const upper = place.before === undefined ? String(place.newestMs) : `(${place.before}`;
    const page = await redis.xrevrange(place.stream, upper, String(place.oldestMs), 'COUNT', stepEntries);
    const entries = page.map(([id, fields]) => entryOf(id, fields));
    const last = page.at(-1)?.[0];
    if (last === undefined) return;
    yield { entries, examined: page.length, position: last };
    if (page.length < stepEntries) return;
    place.before = last;
  }
}

/** Oldest first. */
export async function* scanDayForward(redis: RedisConnection, scan: DayScan): AsyncGenerator<ScanStep> {
  const place = await placeOf(redis, scan);
  if (place.indexed && scan.tokenId !== undefined) {
    const index = await readIndex(redis, scan, scan.tokenId);
    if (index.reachesBack) {
      const within = index.records.filter((record) => isWithin(record, place));
      for (let at = 0; at < within.length; ) {
        const records = partOf(within, at);
        at += records.length;
        const step = await readRecords(redis, place, records, scan.tokenId);
        yield { ...step, position: step.entries.at(-1)?.id ?? (records.at(-1) as IndexRecord).first };
      }
      return;
    }
  }
  let from = String(place.oldestMs);
  const to = place.before === undefined ? String(place.newestMs) : `(${place.before}`;
  for (;;) {
    const page = await redis.xrange(place.stream, from, to, 'COUNT', stepEntries);
    const last = page.at(-1)?.[0];
    if (last === undefined) return;
    yield { entries: page.map(([id, fields]) => entryOf(id, fields)), examined: page.length, position: last };
    if (page.length < stepEntries) return;
    from = `(${last}`;
  }
}

interface Place {
  readonly stream: string;
  /** The stream was written by a version that indexes. */
  readonly indexed: boolean;
  /** Bounds of the ids, ms. */
  readonly oldestMs: number;
  readonly newestMs: number;
  /** Exclusive. */
  before: string | undefined;
}

async function placeOf(redis: RedisConnection, scan: DayScan): Promise<Place> {
  const totals = keys.logTotals(scan.tenant === '' ? noTenant : scan.tenant, dayName(scan.day));
  const indexed = (await redis.exists(totals)) === 1;
  const lateMs = indexed ? Number(await redis.hget(totals, 'lateMs')) || 0 : Number.POSITIVE_INFINITY;
  const newestMs = Math.ceil(scan.toMs + Math.max(waitedUsuallyMs, lateMs));
  return {
    stream: streamOf(scan.tenant, scan.day),
    indexed,
    oldestMs: Math.max(0, Math.floor(scan.fromMs) - clockToleranceMs),
    newestMs: Math.min(newestMs, Number.MAX_SAFE_INTEGER),
    before: scan.before,
  };
}

/** The token's entries of a batch are among the `count` entries of the stream from `first` on. */
interface IndexRecord {
  readonly first: string;
  readonly count: number;
  /** Where the next record begins: what a count leads to behind it (entries were trimmed or deleted) is that one's. */
  readonly until: string | undefined;
}

interface Index {
  /** Oldest first. */
  readonly records: readonly IndexRecord[];
  /** No record of this day was cut off. */
  readonly reachesBack: boolean;
  /** Id of the oldest record of the token. */
  readonly oldest: string | undefined;
}

async function readIndex(redis: RedisConnection, { tenant, day }: DayScan, tokenId: string): Promise<Index> {
  const [token, gaps] = await Promise.all(
    [tokenId, gapOutcome].map((name) => readRecordsOf(redis, keys.logIndex(tenant, name, dayName(day)))),
  );
  const ofToken = token as IndexRecord[];
  const oldest = ofToken[0]?.first;
  const reachesBack = ofToken.length < indexRecordsMax;
  // Where the stream itself is read, it shows its gap records.
  const ofGaps = (gaps as IndexRecord[]).filter(
    ({ first }) => reachesBack || (oldest !== undefined && compareIds(first, oldest) > 0),
  );
  const records = ofGaps.length === 0 ? ofToken : [...ofToken, ...ofGaps].sort((a, b) => compareIds(a.first, b.first));
  return { records, reachesBack, oldest };
}

/** An index, oldest record first. */
async function readRecordsOf(redis: RedisConnection, key: string): Promise<IndexRecord[]> {
  const packed = (await redis.getBuffer(key)) ?? Buffer.alloc(0);
  const newestFirst: IndexRecord[] = [];
  for (let at = packed.length - indexRecordBytes; at >= 0; at -= indexRecordBytes) {
    const first = `${packed.readUIntLE(at, 6)}-${packed.readUInt32LE(at + 6)}`;
    newestFirst.push({ first, count: packed.readUInt16LE(at + 10), until: newestFirst.at(-1)?.first });
  }
  return newestFirst.toReversed();
}

/** Records for one round trip: as many as together lead to a step's entries. */
function partOf(records: readonly IndexRecord[], at: number): IndexRecord[] {
  const part: IndexRecord[] = [];
  let entries = 0;
  for (let place = at; place < records.length && part.length < 50; place += 1) {
    const record = records[place] as IndexRecord;
    if (part.length > 0 && entries + record.count > stepEntries * 2) break;
    part.push(record);
    entries += record.count;
  }
  return part;
}

/** The entries of a token (and gap records) in some places of the stream, oldest first. */
async function readRecords(
  redis: RedisConnection,
  { stream, before }: Place,
  records: readonly IndexRecord[],
  tokenId: string,
): Promise<Pick<ScanStep, 'entries' | 'examined'>> {
  const pages = await Promise.all(records.map(({ first, count }) => redis.xrange(stream, first, '+', 'COUNT', count)));
  const entries: LoggedEntry[] = [];
  let examined = 0;
  for (const [place, page] of pages.entries()) {
    examined += page.length;
    const until = earlier(before, records[place]?.until);
    for (const [id, fields] of page) {
      if (until !== undefined && compareIds(id, until) >= 0) break;
      const entry = entryOf(id, fields);
      if (entry.tokenId === tokenId || entry.outcome === gapOutcome) entries.push(entry);
    }
  }
  entries.sort((a, b) => compareIds(a.id, b.id));
  // A gap record may stand in a place of both lists when entries between were deleted.
  return { entries: entries.filter(({ id }, place) => id !== entries[place - 1]?.id), examined };
}

/** Whether an entry may be the one to go on with, backward. */
function isBehind(id: string, { newestMs, before }: Place): boolean {
  return before === undefined ? idMs(id) <= newestMs : compareIds(id, before) < 0;
}

function isWithin({ first }: IndexRecord, { oldestMs, newestMs, before }: Place): boolean {
  // The entries of a record are written within the ms of its first one, or a few later.
  const ms = idMs(first);
  return ms >= oldestMs - 1000 && ms <= newestMs && (before === undefined || compareIds(first, before) < 0);
}

function earlier(a: string | undefined, b: string | undefined): string | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return compareIds(a, b) < 0 ? a : b;
}
