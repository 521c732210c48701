import * as fc from 'fast-check';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { auditAppendContract } from '../../src/audit/audit-log.js';
import { keys } from '../../src/redis/keys.js';
import { bindScript, loadScript } from '../../src/redis/scripts.js';
import { type RedisServer, startRedis } from '../support/redis.js';

let server: RedisServer;
let redis: Redis;

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
afterAll(() => server.stop());
beforeEach(() => redis.flushall());

type Reply = readonly [appended: number, seq: string, hash: string];

/** Appends records of the fields `text` and `hash` if the head is `seq` and `hash`. */
function appender(connection: Redis) {
  const run = bindScript(connection, loadScript(auditAppendContract));
  return async (seq: string, hash: string, hashes: readonly string[], entriesMax = 1000): Promise<Reply> => {
    const values = hashes.flatMap((each) => [`text of ${each}`, each]);
    return (await run([keys.audit(), keys.auditHead()], [seq, hash, entriesMax, 'text,hash', ...values])) as Reply;
  };
}

async function stream(): Promise<{ seq: number; hash: string | undefined }[]> {
  const entries = await redis.xrange(keys.audit(), '-', '+');
  return entries.map(([id, fields]) => ({ seq: Number(id.split('-')[0]), hash: fields[3] }));
}

describe('audit-append', () => {
  it('keeps the newest records, their head and the anchor before them as the model does, whatever head is claimed', async () => {
    const append = appender(redis);
    const step = fc.record({
      count: fc.integer({ min: 1, max: 4 }),
      claims: fc.constantFrom('the head', 'the head', 'an old number', 'another hash'),
      headIsLost: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 20 }), fc.integer({ min: 1, max: 6 }), async (steps, entriesMax) => {
        await redis.flushall();
        const written: string[] = [];
        let anchor = 0;
        for (const [index, { count, claims, headIsLost }] of steps.entries()) {
          // What is left of the stream says where it ended.
          if (headIsLost && anchor === 0) await redis.del(keys.auditHead());
          const head: readonly [string, string] = [String(written.length), written.at(-1) ?? ''];
          const hashes = Array.from({ length: count }, (_, place) => `hash-${index}-${place}`);
          const seq = claims === 'an old number' ? String(written.length + 1) : head[0];
          const hash = claims === 'another hash' ? 'stranger' : head[1];
          const reply = await append(seq, hash, hashes, entriesMax);
          if (claims !== 'the head') {
            expect(reply).toEqual([0, ...head]);
            continue;
          }
          written.push(...hashes);
          expect(reply).toEqual([1, String(written.length), written.at(-1)]);
          anchor = Math.max(anchor, written.length - entriesMax);
          const kept = written.map((each, at) => ({ seq: at + 1, hash: each })).slice(anchor);
          expect(await stream()).toEqual(kept);
          if (anchor > 0) {
            const marks = await redis.hmget(keys.auditHead(), 'anchorSeq', 'anchorHash');
            expect(marks).toEqual([String(anchor), written[anchor - 1]]);
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  it('lets each of many writers append once, without a gap, also after the scripts were flushed half way', async () => {
    const writers = Array.from({ length: 4 }, () => server.client());
    const each = 25;
    await Promise.all(
      writers.map(async (client, number) => {
        const append = appender(client);
        let head: readonly [string, string] = ['0', ''];
        for (let round = 0; round < each; round++) {
          for (let appended = 0; appended === 0; ) {
            const [state, seq, hash] = await append(...head, [`${number}-${round}`]);
            head = [seq, hash];
            appended = state;
          }
          if (number === 0 && round === 12) await redis.script('FLUSH');
        }
        client.disconnect();
      }),
    );
    const entries = await stream();
    expect(entries.map(({ seq }) => seq)).toEqual(Array.from({ length: 4 * each }, (_, index) => index + 1));
    expect(new Set(entries.map(({ hash }) => hash)).size).toBe(4 * each);
  });
});
