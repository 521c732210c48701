/** CPU of the access log per entry, on this side and in Redis: `npx tsx bench/micro/access-log.ts [entries] [tokens]`. */
import { readFileSync } from 'node:fs';
import { AccessLog } from '../../src/accesslog/writer.js';
import { encodeBatch, RecordNumbers } from '../../src/accesslog/batch.js';
import type { LogEntry } from '../../src/accesslog/entry.js';
import { connectOrFail } from '../../src/redis/connect.js';
import { startRedis } from '../../test/support/redis.js';

const entries = Number(process.argv[2] ?? 300_000);
const tokens = Number(process.argv[3] ?? 50);
const ticksPerSecond = 100;

function entry(index: number): LogEntry {
  return {
    timeMs: Date.now(),
    requestId: `req-${index}-0123456789abcdef`,
    tenant: 'acme',
    tokenId: `tok${index % tokens}`.padEnd(12, 'x'),
    method: 'GET',
    path: `/api/v1/products/${index}`,
    route: '/api/v1/products/{id}',
    status: 200,
    outcome: 'ok',
    durationMs: 1.234_567 + (index % 100),
    upstreamMs: 0.987_654,
    bytesIn: 0,
    bytesOut: 1234 + (index % 1000),
    ip: '203.0.113.7',
    userAgent: 'curl/8.5.0',
  };
}

function redisCpuUs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return ((Number(fields[11]) + Number(fields[12])) * 1e6) / ticksPerSecond;
}

function perEntry(label: string, us: number): void {
  console.log(`${label.padEnd(34)} ${(us / entries).toFixed(2)} us/entry`);
}

const prepared = Array.from({ length: 200 }, (_, index) => entry(index));
const target = {
  sequenceKey: 's',
  number: 1,
  records: new RecordNumbers('w'),
  retentionDays: 30,
  streamMaxEntries: 1_000_000,
};
for (let round = 0; round < 500; round += 1) encodeBatch(prepared, [], target);
let before = process.cpuUsage();
for (let done = 0; done < entries; done += 200) encodeBatch(prepared, [], target);
let used = process.cpuUsage(before);
perEntry('encode', used.user + used.system);

const server = await startRedis();
const redis = await connectOrFail({ url: server.url, commandTimeoutMs: 1000 });
const log = new AccessLog({
  redis,
  retentionDays: 30,
  streamMaxEntries: 1_000_000,
  bufferMaxEntries: entries,
  flushIntervalMs: 100,
  metrics: { logEntries: () => {}, storeError: () => {} },
  logger: { info: () => {}, warn: () => {} },
});
const all = Array.from({ length: entries }, (_, index) => entry(index));
before = process.cpuUsage();
for (const each of all) log.append(each);
used = process.cpuUsage(before);
perEntry('append', used.user + used.system);
const redisBefore = redisCpuUs(server.pid);
const { remaining } = await log.flush(60_000);
used = process.cpuUsage(before);
perEntry('append + flush', used.user + used.system);
perEntry('Redis', redisCpuUs(server.pid) - redisBefore);
console.log(
  `remaining ${remaining}, in stream ${await redis.xlen(`log:{acme}:${new Date().toISOString().slice(0, 10)}`)}`,
);
await log.close({ stalledMs: 1000, deadlineMs: 1000 });
redis.disconnect();
await server.stop();
