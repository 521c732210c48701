/**
 * CPU of the access log per entry, on this side and in Redis, what Redis does for it and what it keeps:
 * `npx tsx bench/micro/access-log.ts [entries] [tokens] [tenants]`. Tokens take turns; with more than one tenant they are
 * used as in the scenario tokens-1m: the n-th 1/n as often as the first.
 */
import { readFileSync } from 'node:fs';
import type { Redis } from 'ioredis';
import { AccessLog } from '../../src/accesslog/writer.js';
import { encodeBatch, RecordNumbers } from '../../src/accesslog/batch.js';
import type { LogEntry } from '../../src/accesslog/entry.js';
import { connectOrFail } from '../../src/redis/connect.js';
import { startRedis } from '../../test/support/redis.js';
import { TokenRanks } from '../load/token-ranks.js';

const entries = Number(process.argv[2] ?? 300_000);
const tokens = Number(process.argv[3] ?? 50);
const tenants = Number(process.argv[4] ?? 1);
const ticksPerSecond = 100;
const ranks = tenants > 1 ? new TokenRanks(tokens, true) : undefined;

function entry(index: number): LogEntry {
  const token = ranks?.next() ?? index % tokens;
  return {
    timeMs: Date.now(),
    requestId: `req-${index}-0123456789abcdef`,
    tenant: tenants > 1 ? `t${token % tenants}` : 'acme',
    tokenId: `tok${token}`.padEnd(12, 'x'),
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

/** Commands an entry inside of the script, and the time of each. */
async function printCommands(redis: Redis): Promise<void> {
  let all = 0;
  for (const line of (await redis.info('commandstats')).split('\r\n')) {
    const [, name, calls, usPerCall] = /^cmdstat_(\S+):calls=(\d+),usec=\d+,usec_per_call=([\d.]+)/.exec(line) ?? [];
    if (name === undefined || Number(calls) < entries / 1000) continue;
    if (!name.startsWith('eval')) all += Number(calls) / entries;
    console.log(`  ${name.padEnd(32)} ${(Number(calls) / entries).toFixed(3)} an entry, ${usPerCall} us each`);
  }
  console.log(`  ${'all'.padEnd(32)} ${all.toFixed(2)} an entry`);
}

/** Bytes of the keys of each kind, names and places in the tables of keys not counted. */
async function printMemory(redis: Redis): Promise<void> {
  const kinds = new Map<string, { keys: number; bytes: number }>();
  const names = await redis.keys('*');
  for (let at = 0; at < names.length; at += 1000) {
    const part = names.slice(at, at + 1000);
    const sizes = await Promise.all(part.map((name) => redis.memory('USAGE', name, 'SAMPLES', 0)));
    for (const [place, name] of part.entries()) {
      const kind = name.replace(/\{.*?\}/, '').replace(/:[^:]*\d.*/, ' of a token, day or writer');
      const found = kinds.get(kind) ?? { keys: 0, bytes: 0 };
      kinds.set(kind, { keys: found.keys + 1, bytes: found.bytes + Number(sizes[place]) });
    }
  }
  for (const [kind, { keys, bytes }] of kinds) {
    console.log(
      `  ${kind.padEnd(44)} ${keys} keys, ${(bytes / keys).toFixed(0)} B each, ${(bytes / entries).toFixed(0)} B an entry`,
    );
  }
  const used = /^used_memory:(\d+)/m.exec(await redis.info('memory'))?.[1];
  console.log(`  used_memory ${Math.round(Number(used) / 1e6)} MB`);
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
console.log(`remaining ${remaining}`);
const reader = server.client();
await printCommands(reader);
await printMemory(reader);
await log.close({ stalledMs: 1000, deadlineMs: 1000 });
redis.disconnect();
await server.stop();
