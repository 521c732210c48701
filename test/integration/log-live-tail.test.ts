import { once } from 'node:events';
import type { Redis } from 'ioredis';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { sampleEntry } from '../support/log-entry.js';
import {
  LiveTail,
  parsePosition,
  positionText,
  type TailItem,
  type TailPosition,
  type TailQuery,
} from '../../src/accesslog/live-tail.js';
import { AccessLog } from '../../src/accesslog/writer.js';
import { connect } from '../../src/redis/connect.js';
import { keys } from '../../src/redis/keys.js';
import { type RedisServer, startRedis } from '../support/redis.js';
import { until } from '../support/until.js';

let server: RedisServer;
let commands: Redis;
let tail: LiveTail;
let log: AccessLog;
let opened = 0;
let written = 0;
const stop = { all: new AbortController() };

beforeEach(async () => {
  server = await startRedis();
  const open = (): Redis => connect({ url: server.url, commandTimeoutMs: 20_000 }, 'log');
  commands = open();
  const logRedis = open();
  await Promise.all([once(commands, 'ready'), once(logRedis, 'ready')]);
  opened = 0;
  written = 0;
  stop.all = new AbortController();
  tail = new LiveTail(commands, () => {
    opened += 1;
    return open();
  });
  log = new AccessLog({
    redis: logRedis,
    retentionDays: 30,
    streamMaxEntries: 1_000_000,
    bufferMaxEntries: 1_000_000,
    flushIntervalMs: 5,
    metrics: { logEntries: () => {}, storeError: () => {} },
    logger: { info: () => {}, warn: () => {} },
  });
});
afterEach(async () => {
  stop.all.abort();
  await tail.close();
  await log.close({ stalledMs: 1000, deadlineMs: 1000 });
  commands.disconnect();
  await server.stop();
});

async function write(count: number, fields: Partial<ReturnType<typeof sampleEntry>> = {}): Promise<void> {
  for (let done = 0; done < count; done += 1) {
    log.append(sampleEntry({ timeMs: Date.now(), requestId: String(written), ...fields }));
    written += 1;
  }
  await log.flush(120_000);
}

/** Starts reading; `items` grows as fast as `pace` lets it. */
function reader(query: Partial<TailQuery> = {}, pace: () => Promise<unknown> = () => Promise.resolve()) {
  const items: TailItem[] = [];
  const ended = (async () => {
    for await (const item of tail.read({ tenant: 'acme', filter: {}, signal: stop.all.signal, ...query })) {
      items.push(item);
      await pace();
    }
  })();
  return {
    items,
    ended,
    requestIds: () => items.flatMap((item) => ('entry' in item ? [item.entry.requestId] : [])),
    skipped: () => items.reduce((sum, item) => sum + ('skipped' in item ? (item.skipped ?? Number.NaN) : 0), 0),
    lastPosition: (): TailPosition | undefined =>
      items.flatMap((item) => ('entry' in item ? [item.position] : [])).at(-1),
  };
}

const numbers = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, index) => String(from + index));

test('many readers share one connection, and each sees every entry of its tenant and filter from its start on', async () => {
  await write(5);
  const all = reader();
  const other = reader({ tenant: 'other' });
  const errors = reader({ filter: { status: { from: 500, to: 599 } } });
  await until(() => tail.readers === 3);
  await write(600);
  await write(1, { status: 503 });
  await write(1, { tenant: 'other' });
  await until(() => all.items.length === 601 && other.items.length === 1 && errors.items.length === 1);
  expect(all.requestIds()).toEqual(numbers(5, 606));
  expect(errors.requestIds()).toEqual(['605']);
  expect(opened).toBe(1);
});

test('a slow reader loses what does not fit, is told how many, goes on with the newest, and holds up nobody', async () => {
  let release: () => void = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const slow = reader({}, () => held);
  const fast = reader();
  await until(() => tail.readers === 2);
  await write(1);
  await until(() => slow.items.length === 1);
  await write(20_000);
  await until(() => fast.items.length + fast.skipped() >= 20_001);
  expect(slow.items.length).toBe(1);
  release();
  await until(() => slow.requestIds().at(-1) === '20000');
  expect(slow.skipped()).toBeGreaterThanOrEqual(19_000 - 1);
  expect(slow.requestIds().length + slow.skipped()).toBe(20_001);
});

test('a reader that comes back goes on behind the last entry it saw, without a hole or a copy, while entries come', async () => {
  const first = reader();
  await until(() => tail.readers === 1);
  await write(10);
  await until(() => first.items.length === 10);
  const after = first.lastPosition() as TailPosition;
  await write(700);
  const more = write(300);
  const second = reader({ after });
  await more;
  await write(50);
  await until(() => second.requestIds().at(-1) === '1059');
  expect(second.requestIds()).toEqual(numbers(10, 1060));
});

test('a reader that was away too long is told so and goes on live', async () => {
  const back = reader({ after: { day: Math.floor(Date.now() / 86_400_000) - 5, id: '1-0' } });
  await until(() => tail.readers === 1);
  await write(1);
  await until(() => back.requestIds().length === 1);
  expect(back.items[0]).toEqual({ skipped: null });
});

test('Redis away for a while: readers wait and go on', async () => {
  const waiting = reader();
  await until(() => tail.readers === 1);
  await write(1);
  await until(() => waiting.items.length === 1);
  await server.restart({ keepData: false });
  await write(3);
  await until(() => waiting.items.length === 4);
  expect(waiting.requestIds()).toEqual(numbers(0, 4));
});

test('without readers nothing is read, and the connection is closed', async () => {
  const one = new AbortController();
  const only = reader({ signal: one.signal });
  await until(() => tail.readers === 1);
  await write(1);
  await until(() => only.items.length === 1);
  one.abort();
  await only.ended;
  expect(tail.readers).toBe(0);
  await until(async () => !String(await commands.client('LIST')).includes('cmd=xread'));
  await write(3);
  const next = reader();
  await until(() => tail.readers === 1);
  await write(1);
  await until(() => next.items.length === 1);
  expect(next.requestIds()).toEqual(['4']);
  expect(opened).toBe(2);
});

test('a key that is no stream fails its readers', async () => {
  await commands.set(keys.log('broken', new Date().toISOString().slice(0, 10)), 'no stream');
  await expect(reader({ tenant: 'broken' }).ended).rejects.toThrow(/WRONGTYPE/);
});

test('a position survives being written as text, and nonsense is none', () => {
  const position = { day: 20_000, id: '1732300000000-17' };
  expect(parsePosition(positionText(position))).toEqual(position);
  for (const text of ['', '1', '2026-13-41/1-1', '2026-01-01/x', '2026-01-01/1-1 '])
    expect(parsePosition(text)).toBeUndefined();
});
