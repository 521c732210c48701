/**
 * CPU of one admission, in Redis and in this process: `npx tsx bench/micro/admission.ts [rounds]`.
 * The best of ten rounds each, because other work on the machine only ever adds.
 */
import { AdmitBatch, bindAdmit, serverCarrier } from '../../src/admission/admit.js';
import { type AdmissionTicket, type Verdict, verdictCodes } from '../../src/admission/ticket.js';
import { Admission } from '../../src/admission/batcher.js';
import { compileLimits, type Limit } from '../../src/admission/limit.js';
import { connectOrFail } from '../../src/redis/connect.js';
import { keys } from '../../src/redis/keys.js';
import { startRedis } from '../../test/support/redis.js';

const rounds = Number(process.argv[2] ?? 10);
const callsPerRound = 200;
const plenty = 1e9;

const limitSets: Readonly<Record<string, readonly Limit[]>> = {
  'no limit': [],
  'sliding-window': [{ limit: plenty, window: 60, algorithm: 'sliding-window' }],
  'sliding-window, full log': [{ limit: plenty, window: 1, algorithm: 'sliding-window' }],
  'sliding-window, used up': [{ limit: 1, window: 3600, algorithm: 'sliding-window' }],
  'fixed-window': [{ limit: plenty, window: 60, algorithm: 'fixed-window' }],
  'token-bucket': [{ limit: 60_000_000, window: 60, algorithm: 'token-bucket' }],
  month: [{ limit: plenty, period: 'month' }],
  'second, minute and month': [
    { limit: plenty, window: 1, algorithm: 'sliding-window' },
    { limit: plenty, window: 60, algorithm: 'sliding-window' },
    { limit: plenty, period: 'month' },
  ],
};

const server = await startRedis();
const redis = await connectOrFail({ url: server.url, commandTimeoutMs: 5000 });
const run = bindAdmit(redis);

async function redisCpuUs(): Promise<number> {
  const text = await redis.info('cpu');
  const seconds = ['used_cpu_user', 'used_cpu_sys'].map((name) =>
    Number(new RegExp(`${name}:([\\d.]+)`).exec(text)?.[1]),
  );
  return ((seconds[0] as number) + (seconds[1] as number)) * 1e6;
}

function ticket(index: number, settled: (verdict: Verdict) => void = () => {}): AdmissionTicket {
  return {
    tokenKey: keys.token(`bench${index}`),
    tokenVersion: 1,
    tenantKey: keys.tenant('bench'),
    tenantVersion: 1,
    cost: 1,
    notBeforeMs: 0,
    notAfterMs: 0,
    claim: '',
    claimKey: '',
    claimUntilMs: 0,
    leasable: false,
    lease: null,
    waitingSinceMs: 0,
    cancelled: false,
    admissionSettled: settled,
  };
}

async function writeRecords(limits: readonly Limit[]): Promise<void> {
  await redis.flushall();
  const record = 'x'.repeat(500);
  for (let index = 0; index < 64; index += 1) {
    await redis.hset(keys.token(`bench${index}`), { version: 1, record, limits: compileLimits(limits) });
  }
  await redis.hset(keys.tenant('bench'), { version: 1, record, limits: compileLimits([]) });
}

async function redisUsPerRequest(size: number, tokens: number): Promise<number> {
  const batch = new AdmitBatch();
  for (let index = 0; index < size; index += 1) batch.tickets.push(ticket(index % tokens));
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round += 1) {
    const before = await redisCpuUs();
    for (let call = 0; call < callsPerRound; call += 20) {
      await Promise.all(Array.from({ length: 20 }, () => batch.send(run, '')));
    }
    best = Math.min(best, (await redisCpuUs()) - before);
  }
  return best / callsPerRound / size;
}

console.log('Redis, CPU us a request             64 tokens  1 token  alone');
for (const [name, limits] of Object.entries(limitSets)) {
  await writeRecords(limits);
  const figures = [await redisUsPerRequest(64, 64), await redisUsPerRequest(64, 1), await redisUsPerRequest(1, 1)];
  console.log(`${name.padEnd(34)} ${figures.map((us) => us.toFixed(2).padStart(8)).join(' ')}`);
}

/** The whole of this process: tickets, batches, ioredis, verdicts; `concurrency` requests are always under way. */
async function processUsPerRequest(concurrency: number, deny: boolean): Promise<number> {
  await writeRecords(
    deny ? [{ limit: 1, window: 3600, algorithm: 'sliding-window' }] : (limitSets['sliding-window'] ?? []),
  );
  const admission = new Admission({
    carrier: serverCarrier(redis),
    queueMax: 10_000,
    commandTimeoutMs: 5000,
    observer: { batchAnswered: () => {}, storeFailed: () => {}, deniedLocally: () => {} },
  });
  admission.denials.enabled = deny;
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round += 1) {
    const total = 40_000;
    let left = total;
    const before = process.cpuUsage();
    await new Promise<void>((resolve) => {
      let underWay = concurrency;
      for (let index = 0; index < concurrency; index += 1) {
        const own = ticket(index % 64, (verdict) => {
          if (verdict.code === verdictCodes.storeUnavailable) throw new Error('the store failed');
          left -= 1;
          own.waitingSinceMs = 0;
          if (left > 0) admission.submit(own);
          else if ((underWay -= 1) === 0) resolve();
        });
        admission.submit(own);
      }
    });
    const used = process.cpuUsage(before);
    best = Math.min(best, (used.user + used.system) / total);
  }
  return best;
}

console.log('\nThis process, CPU us a request');
for (const concurrency of [1, 8, 64, 256]) {
  console.log(
    `${`${concurrency} at once`.padEnd(34)} ${(await processUsPerRequest(concurrency, false)).toFixed(2).padStart(8)}`,
  );
}
console.log(
  `${'64 at once, from the deny cache'.padEnd(34)} ${(await processUsPerRequest(64, true)).toFixed(2).padStart(8)}`,
);

redis.disconnect();
await server.stop();
