/**
 * 100,000 requests over 50 tokens with known statuses and durations, through the real log writer and metrics into a real
 * Redis: usage, log and Prometheus must tell the same. (That requests over sockets come to the same is in
 * admin-logs.test.ts and log-end-to-end.test.ts, with fewer of them.)
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { isTokenUse, type LogEntry } from '../../src/accesslog/entry.js';
import type { LoggedEntry } from '../../src/accesslog/logged-entry.js';
import { readForward } from '../../src/accesslog/reader.js';
import { Metrics } from '../../src/telemetry/metrics.js';
import { readUsage } from '../../src/usage/reader.js';
import { runCommand } from '../support/cli.js';
import { samplesOf } from '../support/exposition.js';
import { sampleEntry } from '../support/log-entry.js';
import { type RedisServer, startRedis } from '../support/redis.js';
import { expectUsage } from '../support/usage-model.js';
import { openLog } from '../support/written-log.js';

const total = 100_000;
const now = Date.now();
const tokens = Array.from({ length: 50 }, (_, index) => `token${index}`);
const answers = [
  [200, 'ok'],
  [200, 'ok'],
  [201, 'ok'],
  [304, 'ok'],
  [404, 'ok'],
  [500, 'ok'],
  [429, 'rate-limit-exceeded'],
  [403, 'insufficient-scope'],
  [401, 'token-revoked'],
  [504, 'upstream-timeout'],
] as const;

let server: RedisServer;
const metrics = new Metrics('1');
const entries: LogEntry[] = [];

beforeAll(async () => {
  server = await startRedis();
  const { log, close } = await openLog(server.url, { metrics });
  for (let index = 0; index < total; index += 1) {
    const [status, outcome] = answers[(index * 7) % answers.length] as (typeof answers)[number];
    const token = index % tokens.length;
    const entry = sampleEntry({
      timeMs: now - (index % 20) * 3_600_000,
      requestId: String(index),
      tenant: `tenant${token % 5}`,
      tokenId: tokens[token] as string,
      status,
      outcome,
      durationMs: ((index * 37) % 4000) / 8,
    });
    entries.push(entry);
    metrics.observeRequest(outcome, entry.method, status, entry.durationMs / 1000);
    log.append(entry);
    if (index % 20_000 === 10_000) {
      await server.client().script('FLUSH');
      await log.flush(120_000);
    }
  }
  await close();
});
afterAll(() => server.stop());

test('the usage of every token and tenant is what was written', async () => {
  const redis = server.client();
  for (const [index, id] of tokens.entries()) {
    const tenant = `tenant${index % 5}`;
    expectUsage(
      await readUsage(redis, tenant, id, now),
      entries.filter((entry) => entry.tokenId === id),
      now,
    );
  }
  for (const tenant of [0, 1, 2, 3, 4].map((number) => `tenant${number}`)) {
    expectUsage(
      await readUsage(redis, tenant, null, now),
      entries.filter((entry) => entry.tenant === tenant),
      now,
    );
  }
});

test('log, usage and Prometheus count the same requests, by outcome and status', async () => {
  const redis = server.client();
  const tenants = [0, 1, 2, 3, 4].map((number) => `tenant${number}`);
  const range = { tenants, fromMs: now - 48 * 3_600_000, toMs: now + 1000, filter: {} };
  const inLog = new Map<string, number>();
  let callsInLog = 0;
  const count = (outcome: string, status: number): string => `${outcome} ${Math.floor(status / 100)}xx`;
  const ids = new Set<string>();
  for await (const entry of readForward(redis, range)) {
    ids.add(entry.requestId);
    const name = count(entry.outcome, entry.status);
    inLog.set(name, (inLog.get(name) ?? 0) + 1);
    if (isTokenUse(asWritten(entry))) callsInLog += 1;
  }
  const inPrometheus = new Map<string, number>();
  for (const [name, value] of samplesOf(await metrics.exposition())) {
    const [, outcome, statusClass] =
      /^tollkeeper_requests_total\{outcome="([^"]+)".*status_class="([^"]+)"/.exec(name) ?? [];
    if (outcome !== undefined) inPrometheus.set(`${outcome} ${statusClass ?? ''}`, value);
  }
  expect(ids.size).toBe(total);
  expect(Object.fromEntries(inLog)).toEqual(Object.fromEntries(inPrometheus));
  expect(samplesOf(await metrics.exposition()).get('tollkeeper_log_entries_total{result="written"}')).toBe(total);
  const reports = await Promise.all(tenants.map((tenant) => readUsage(redis, tenant, null, now)));
  expect(reports.reduce((sum, { lifetime }) => sum + lifetime.calls, 0)).toBe(callsInLog);
  expect(callsInLog).toBe(total - total / 10);
});

test('the command tells the same figures, and that the log is whole', async () => {
  const env = { TOLLKEEPER_REDIS_URL: server.url };
  const { stdout } = await runCommand(['usage', '--tenant', 'tenant0', '--json'], env);
  const report = JSON.parse(stdout) as { lifetime: { calls: number } };
  expect(report.lifetime.calls).toBe(entries.filter((entry) => entry.tenant === 'tenant0' && isTokenUse(entry)).length);
  const table = await runCommand(['usage', '--tenant', 'tenant0', '--token', 'token0'], env);
  expect([table.code, table.stdout]).toEqual([0, expect.stringContaining('calls by hour')]);
  const verified = await runCommand(['logs', 'verify', '--tenant', 'tenant0', '--since', '2d', '--json'], env);
  expect([verified.code, JSON.parse(verified.stdout)]).toMatchObject([0, { complete: true }]);
  const exported = await runCommand(
    ['logs', '--tenant', 'tenant1', '--token', 'token1', '--status', '504', '--export', 'csv'],
    env,
  );
  expect(exported.stdout.trimEnd().split(/\r?\n/)).toHaveLength(
    1 + entries.filter((entry) => entry.tokenId === 'token1' && entry.status === 504).length,
  );
});

function asWritten(entry: LoggedEntry): LogEntry {
  return { ...entry, timeMs: Date.parse(entry.time) };
}
