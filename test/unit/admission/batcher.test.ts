import type { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { serverCarrier } from '../../../src/admission/admit.js';
import { blankVerdict, type TicketBatch, type Verdict } from '../../../src/admission/ticket.js';
import { Admission, type AdmissionOptions } from '../../../src/admission/batcher.js';
import type { Limit } from '../../../src/admission/limit.js';
import { connect } from '../../../src/redis/connect.js';
import { keys } from '../../../src/redis/keys.js';
import type { StoreErrorKind } from '../../../src/telemetry/catalogue.js';
import { initialise, installation, nameOf, ticketOf, type TicketFields, writeRecord } from '../../lua/admit-rig.js';
import { type LoopClock, startLoopClock } from '../../support/loop-clock.js';
import { type RedisServer, startRedis } from '../../support/redis.js';
import { until } from '../../support/until.js';

const token = keys.token('batched');

let server: RedisServer;
let admission: Admission;
let redis: Redis;
let batchSizes: number[];
let storeErrors: StoreErrorKind[];
let deniedLocally: number;

/** A deadline that only a fault can miss, except where a test is about deadlines. */
async function start({ commandTimeoutMs = 20_000, ...options }: Partial<AdmissionOptions> = {}): Promise<void> {
  redis = connect({ url: server.url, commandTimeoutMs }, 'admission');
  batchSizes = [];
  storeErrors = [];
  deniedLocally = 0;
  admission = new Admission({
    carrier: serverCarrier(redis),
    queueMax: 100_000,
    commandTimeoutMs,
    observer: {
      batchAnswered: (size) => batchSizes.push(size),
      storeFailed: (kind) => storeErrors.push(kind),
      deniedLocally: () => (deniedLocally += 1),
    },
    ...options,
  });
  admission.installation = installation;
  await new Promise<void>((resolve) => {
    redis.once('ready', () => resolve());
  });
}

beforeEach(async () => {
  server = await startRedis();
  const control = server.client();
  await initialise(control);
  await setLimit(1000);
  await start();
});
afterEach(async () => {
  admission.close();
  redis.disconnect();
  await server.stop();
});

async function restart(options: Partial<AdmissionOptions>): Promise<void> {
  admission.close();
  redis.disconnect();
  await start(options);
}

async function setLimit(limit: number, version = 1): Promise<void> {
  const limits: Limit[] = [{ limit, window: 3600, algorithm: 'sliding-window' }];
  await writeRecord(server.client(), token, limits, version);
}

const ask = (fields: Partial<TicketFields> = {}): Promise<Verdict> =>
  new Promise((resolve) => {
    admission.submit(ticketOf({ tokenKey: token, ...fields }, (verdict) => resolve({ ...verdict })));
  });
const askMany = async (count: number, fields: Partial<TicketFields> = {}): Promise<string[]> =>
  (await Promise.all(Array.from({ length: count }, () => ask(fields)))).map((verdict) => nameOf(verdict.code));

function tally(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

const remaining = async (): Promise<number> => (await ask({ cost: 0 })).remaining;

async function scriptCalls(): Promise<number> {
  const stats = await server.client().info('commandstats');
  const lines = stats.matchAll(/cmdstat_eval(?:sha)?:calls=(\d+)\S*failed_calls=(\d+)/g);
  // NOSCRIPT fails: nothing has run.
  return [...lines].reduce((sum, [, calls, failed]) => sum + Number(calls) - Number(failed), 0);
}

describe('batching', () => {
  test('the tickets of one event-loop turn share one batch', async () => {
    expect(tally(await askMany(50))).toEqual({ admitted: 50 });
    expect(batchSizes).toEqual([50]);
    expect(await remaining()).toBe(950);
  });

  test('a burst leaves in batches of at most 128, two of them at a time', async () => {
    expect(tally(await askMany(500))).toEqual({ admitted: 500 });
    expect(batchSizes).toEqual([128, 128, 128, 116]);
  });

  test('each ticket gets its own verdict', async () => {
    const verdicts = await Promise.all([
      ask(),
      ask({ tokenVersion: 0 }),
      ask({ tokenKey: keys.token('nobody') }),
      ask({ cost: 2000 }),
      ask({ cost: 0 }),
    ]);
    expect(verdicts.map((verdict) => nameOf(verdict.code))).toEqual([
      'admitted',
      'moved',
      'unknown',
      'limited',
      'confirmed',
    ]);
    expect(verdicts[1]?.tokenRecord).toBe('{"version":1}');
    expect(verdicts[4]?.tokenRecord).toBeNull();
  });

  test('a ticket is never settled inside submit, nor in the microtasks after it', async () => {
    await setLimit(1);
    admission.denials.enabled = true;
    const settled: string[] = [];
    const submit = (fields: Partial<TicketFields>): number =>
      admission.submit(
        ticketOf({ tokenKey: token, ...fields }, (verdict) => settled.push(nameOf(verdict.code))),
      ) as never;
    await askMany(2);
    submit({});
    await Promise.resolve();
    await new Promise<void>((resolve) => process.nextTick(resolve));
    expect(settled).toEqual([]);
    expect(deniedLocally).toBe(1);
    await until(() => settled.length > 0);
    expect(settled).toEqual(['limited']);
  });

  test('a ticket cancelled before it is sent is neither charged nor settled', async () => {
    let settled = false;
    const ticket = { ...ticketOf({ tokenKey: token }, () => (settled = true)) };
    admission.submit(ticket);
    ticket.cancelled = true;
    expect(await remaining()).toBe(1000);
    expect(settled).toBe(false);
  });

  test('beyond the queue’s bound a ticket is told at once that there are too many', async () => {
    await restart({ queueMax: 10 });
    expect(tally(await askMany(25))).toEqual({ admitted: 10, overloaded: 15 });
    expect(await remaining()).toBe(990);
  });

  test('a callback that throws surfaces and does not take the others with it', async () => {
    const thrown = new Promise<unknown>((resolve) => {
      const listeners = process.listeners('uncaughtException');
      process.removeAllListeners('uncaughtException');
      process.once('uncaughtException', (error) => {
        for (const listener of listeners) process.on('uncaughtException', listener);
        resolve(error);
      });
    });
    const first = ask();
    admission.submit(
      ticketOf({ tokenKey: token }, () => {
        throw new Error('bug in a callback');
      }),
    );
    const last = ask();
    expect([nameOf((await first).code), nameOf((await last).code)]).toEqual(['admitted', 'admitted']);
    expect(await thrown).toMatchObject({ message: 'bug in a callback' });
  });

  test('after close every ticket is told that the store is unavailable', async () => {
    const waiting = askMany(3);
    admission.close();
    expect(tally([...(await waiting), ...(await askMany(2))])).toEqual({ storeUnavailable: 5 });
  });
});

describe('deny cache', () => {
  test('a flood over the limit costs Redis nothing until its wait is over', async () => {
    await setLimit(5);
    admission.denials.enabled = true;
    expect(tally(await askMany(6))).toEqual({ admitted: 5, limited: 1 });
    const before = await scriptCalls();
    const startedAtMs = performance.now();
    for (let turn = 0; turn < 20; turn += 1) expect(tally(await askMany(50))).toEqual({ limited: 50 });
    // A refusal is repeated for a second at most.
    const callsMax = 2 + (performance.now() - startedAtMs) / 1000;
    const calls = (await scriptCalls()) - before;
    expect(calls).toBeLessThanOrEqual(callsMax);
    expect(deniedLocally).toBeGreaterThanOrEqual(1000 - 50 * calls);
  });

  test('a raised limit holds from the next request once its change is heard', async () => {
    await setLimit(1);
    admission.denials.enabled = true;
    expect(tally(await askMany(2))).toEqual({ admitted: 1, limited: 1 });
    await setLimit(3);
    admission.denials.forgetToken(token);
    expect(tally(await askMany(2))).toEqual({ admitted: 2 });
  });

  test('with the subscription down every request asks Redis', async () => {
    await setLimit(1);
    expect(tally(await askMany(2))).toEqual({ admitted: 1, limited: 1 });
    const before = await scriptCalls();
    await ask();
    await ask();
    expect(await scriptCalls()).toBe(before + 2);
    expect(deniedLocally).toBe(0);
  });
});

describe('faults of Redis', () => {
  let clock: LoopClock;
  beforeEach(() => {
    clock = startLoopClock();
  });
  afterEach(() => clock.stop());

  const untilSettled = async (work: () => Promise<string>, wanted: string): Promise<number> => {
    const from = clock.now();
    while ((await work()) !== wanted) if (clock.now() - from > 10_000) throw new Error(`never ${wanted}`);
    return clock.now() - from;
  };
  const askName = async (): Promise<string> => nameOf((await ask()).code);

  test('SCRIPT FLUSH half way is not noticed', async () => {
    await askMany(3);
    await server.client().script('FLUSH');
    expect(tally(await askMany(3))).toEqual({ admitted: 3 });
    expect(await remaining()).toBe(994);
  });

  test('frozen: no ticket is left hanging, and soon nobody waits', async () => {
    await restart({ commandTimeoutMs: 100 });
    await ask();
    server.freeze();
    const waits: number[] = [];
    const told = new Set<string>();
    const timed = async (): Promise<void> => {
      const from = clock.now();
      told.add(await askName());
      waits.push(clock.now() - from);
    };
    const asked: Promise<void>[] = [];
    const from = clock.now();
    while (clock.now() - from < 500) {
      asked.push(timed());
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    await Promise.all(asked);
    expect(told).toEqual(new Set(['storeUnavailable']));
    // The deadline, 50 ms, and some turns of the loop.
    expect(waits.reduce((most, wait) => Math.max(most, wait), 0)).toBeLessThan(150 + 100);
    expect(waits.filter((wait) => wait > 50).length).toBeLessThan(waits.length / 2);
    expect(storeErrors).toContain('timeout');
    expect(admission.breakerState).not.toBe('closed');
    server.thaw();
    expect(await untilSettled(askName, 'admitted')).toBeLessThan(1000);
    expect(admission.breakerState).toBe('closed');
  });

  test('frozen: what was sent before, and waits behind what came later, is told at its own deadline', async () => {
    await restart({ commandTimeoutMs: 1000 });
    await ask();
    server.freeze();
    const told: string[] = [];
    const submit = (name: string, waitingSinceMs: number): void =>
      admission.submit(
        ticketOf({ tokenKey: token }, ({ code }) => told.push(`${name} ${nameOf(code)}`), waitingSinceMs),
      );
    const turn = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    submit('first of two in flight', 0);
    await turn();
    submit('second', 0);
    await turn();
    // As of a record that moved: it was sent half a deadline ago.
    submit('sent again', performance.now() - 500);
    await until(() => told.length === 3);
    expect(told).toEqual([
      'sent again storeUnavailable',
      'first of two in flight storeUnavailable',
      'second storeUnavailable',
    ]);
  });

  test('frozen: a batch that was given up holds nobody, whatever comes of it', async () => {
    const carrier = serverCarrier(redis);
    const batches: TicketBatch[] = [];
    const newBatch = (): TicketBatch => {
      const batch = carrier.newBatch();
      batches.push(batch);
      return batch;
    };
    await ask();
    const gate = new Admission({
      carrier: { ...carrier, newBatch },
      queueMax: 10,
      commandTimeoutMs: 100,
      observer: { batchAnswered: () => {}, storeFailed: () => {}, deniedLocally: () => {} },
    });
    server.freeze();
    const told: string[] = [];
    gate.submit(ticketOf({ tokenKey: token }, ({ code }) => told.push(nameOf(code))));
    await until(() => told.length === 1);
    expect(batches.map(({ tickets }) => tickets.length)).toEqual([0]);
    gate.close();
    server.thaw();
    await ask();
    expect(told).toEqual(['storeUnavailable']);
  });

  test('killed: refused at once, and admitted within a second of its return', async () => {
    await ask();
    await server.kill();
    const from = clock.now();
    expect(tally(await askMany(100))).toEqual({ storeUnavailable: 100 });
    expect(clock.now() - from).toBeLessThan(1000);
    await server.restart({ keepData: false });
    expect(await untilSettled(askName, 'storeEmpty')).toBeLessThan(1000);
  });

  test('what Redis refuses is named for the metrics', async () => {
    const control = server.client();
    await control.config('SET', 'min-replicas-to-write', '1');
    expect(await askName()).toBe('storeUnavailable');
    expect(storeErrors).toEqual(['replication']);
    await control.config('SET', 'min-replicas-to-write', '0');
    await control.hset(token, 'limits', 'garbage');
    expect(await askName()).toBe('unreadable');
    expect(storeErrors).toEqual(['replication', 'unreadable-record']);
  });
});

test('a verdict is blank until it is written', () => {
  expect(blankVerdict()).toMatchObject({ limitIndex: -1, tokenRecord: null, tenantRecord: null });
});
