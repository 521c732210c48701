import { once } from 'node:events';
import { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AccessLog } from '../../src/accesslog/writer.js';
import { addConfigOption } from '../../src/cli/config-option.js';
import { registerLogs } from '../../src/cli/logs.js';
import { connectOrFail } from '../../src/redis/connect.js';
import { keys } from '../../src/redis/keys.js';
import { childEnvironment, mainScript, runCommand } from '../support/cli.js';
import { sampleEntry } from '../support/log-entry.js';
import { endProcess, spawnTied } from '../support/process.js';
import { type RedisServer, startRedis } from '../support/redis.js';

let server: RedisServer;
let env: Record<string, string>;

beforeAll(async () => {
  server = await startRedis();
  env = { TOLLKEEPER_REDIS_URL: server.url };
  await server.client().zadd(keys.tenants(), 1, 'acme', 2, 'other');
  await write([
    { requestId: '1', tenant: 'acme', timeMs: Date.now() - 3 * 3_600_000 },
    { requestId: '2', tenant: 'other', status: 404, path: '/x\u001b[2J', outcome: 'route-not-allowed' },
    { requestId: '3', tenant: '', tokenId: '', status: 401, outcome: 'missing-credentials' },
    { requestId: '4', tenant: 'acme', tokenId: 'zzzzzzzzzzzz', status: 429, outcome: 'rate-limit-exceeded' },
  ]);
});
afterAll(() => server.stop());

/** One batch for each, so that their order is that of their ids. */
async function write(
  entries: readonly Partial<ReturnType<typeof sampleEntry>>[],
  bufferMaxEntries = 10,
): Promise<void> {
  const redis = await connectOrFail({ url: server.url, commandTimeoutMs: 0 });
  const log = new AccessLog({
    redis,
    retentionDays: 30,
    streamMaxEntries: 1_000_000,
    bufferMaxEntries,
    flushIntervalMs: 1,
    metrics: { logEntries: () => {}, storeError: () => {} },
    logger: { info: () => {}, warn: () => {} },
  });
  for (const [index, entry] of entries.entries()) {
    // Batches may be written in the same ms: the time decides then.
    log.append(sampleEntry({ timeMs: Date.now() - 1000 + index, ...entry }));
    await log.flush(120_000);
  }
  await log.close({ stalledMs: 1000, deadlineMs: 1000 });
  redis.disconnect();
}

/** Runs the command in this process and answers the lines it printed. */
async function logs(...args: string[]): Promise<string[]> {
  const lines: string[] = [];
  const program = new Command().exitOverride();
  addConfigOption(program);
  registerLogs(program, { env, out: (line) => lines.push(line), err: () => {} });
  await program.parseAsync(['logs', ...args], { from: 'user' });
  return lines;
}

async function logged(...args: string[]): Promise<string[]> {
  const lines = await logs('--json', ...args);
  return lines.map((line) => (JSON.parse(line) as { requestId: string }).requestId);
}

describe('what is selected', () => {
  test.each([
    ['everything, oldest first', [], ['1', '2', '3', '4']],
    ['the newest', ['--limit', '2'], ['3', '4']],
    ['none', ['--limit', '0'], []],
    ['one tenant', ['--tenant', 'acme'], ['1', '4']],
    ['requests of no tenant', ['--tenant', '_'], ['3']],
    ['an unknown tenant has no log', ['--tenant', 'nobody'], []],
    ['since a time ago', ['--since', '1h'], ['2', '3', '4']],
    ['since a time', ['--since', '2020-01-01T00:00:00Z'], ['1', '2', '3', '4']],
    ['a token', ['--token', 'zzzzzzzzzzzz'], ['4']],
    ['a class of status', ['--status', '4xx'], ['2', '3', '4']],
    ['a status', ['--status', '404'], ['2']],
    ['a path', ['--path', '/api/'], ['1', '3', '4']],
  ] as const)('%s', async (_, args, expected) => {
    expect(await logged(...args)).toEqual(expected);
  });

  test.each([
    ['--status', '9xx'],
    ['--limit', '-1'],
    ['--since', 'yesterday'],
  ])('a senseless %s %s is wrong usage', async (option, value) => {
    await expect(logs(option, value)).rejects.toMatchObject({
      exitCode: 2,
      message: expect.stringMatching(new RegExp(`^${option} must be .*`)) as unknown,
    });
  });
});

test('for people a line an entry, which cannot steer the terminal', async () => {
  const { stdout } = await runCommand(['logs', '--tenant', 'other'], env);
  expect(stdout).toMatch(
    /^\S+Z 404 route-not-allowed GET {4}\/x\uFFFD\[2J 1\.5 ms other\/abcdefghijkl 203\.0\.113\.7\n$/,
  );
});

test('a Redis that is away is one sentence and exit code 1', async () => {
  const { code, stderr } = await runCommand(['logs'], { TOLLKEEPER_REDIS_URL: 'redis://127.0.0.1:1' });
  expect(code).toBe(1);
  expect(stderr).toMatch(/^tollkeeper: Redis at redis:\/\/127\.0\.0\.1:1 cannot be used .*\n$/);
});

test('--follow goes on where --limit ended, and an interrupt ends it as done', async () => {
  const args = [mainScript, 'logs', '--follow', '--json', '--tenant', 'acme', '--limit', '1'];
  const child = spawnTied(process.execPath, args, { env: childEnvironment(env), stdio: 'pipe' });
  let output = '';
  const printed = (requestId: string): Promise<void> =>
    new Promise((resolve) => {
      const look = (): void => {
        if (output.includes(`"requestId":"${requestId}"`)) resolve();
      };
      child.stdout?.on('data', look);
      look();
    });
  child.stdout?.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  await printed('4');
  await write([{ requestId: 'live', tenant: 'acme' }]);
  await printed('live');
  const exited = once(child, 'exit');
  child.kill('SIGINT');
  expect(await exited).toEqual([0, null]);
  expect(output.split('\n').filter((line) => line !== '')).toHaveLength(2);
});

test('a reader that closes the pipe early ends it quietly', async () => {
  await write(
    Array.from({ length: 3 }, () => ({ tenant: 'many', path: `/${'x'.repeat(1000)}` })),
    10_000,
  );
  const child = spawnTied(process.execPath, [mainScript, 'logs', '--follow', '--since', '1h', '--tenant', 'many'], {
    env: childEnvironment(env),
    stdio: 'pipe',
  });
  let complaint = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    complaint += chunk.toString();
  });
  const exited = once(child, 'exit');
  if (child.stdout !== null) await once(child.stdout, 'data');
  child.stdout?.destroy();
  await write([{ tenant: 'many' }]);
  expect(await exited).toEqual([0, null]);
  expect(complaint).toBe('');
  await endProcess(child, 'SIGKILL');
});
