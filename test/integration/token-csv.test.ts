/** Importing many tokens from a CSV file: all of it or nothing, whole rows only, and again without harm. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { BulkImport } from '../../src/token/bulk-import.js';
import { keys } from '../../src/redis/keys.js';
import { childEnvironment, type CommandResult, mainScript } from '../support/cli.js';
import { runInProcess } from '../support/command-line.js';
import { spawnTied } from '../support/process.js';
import { type RedisServer, startRedis } from '../support/redis.js';
import { importDraft, openRepositories, type Repositories } from '../support/repositories.js';
import { until } from '../support/until.js';

const hashOf = (text: string | number): string => createHash('sha256').update(String(text)).digest('hex');

let server: RedisServer;
let repositories: Repositories;
let dir: string;
let file: string;

beforeAll(async () => {
  server = await startRedis();
  dir = mkdtempSync(join(tmpdir(), 'tk-csv-'));
  file = join(dir, 'tokens.csv');
});
afterAll(async () => {
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
});
beforeEach(async () => {
  repositories = await openRepositories(server.url);
  await repositories.redis.flushall();
  for (const slug of ['acme', 'globex']) {
    expect((await run('tenant', 'create', slug, '--name', slug, '--max-tokens', '50000')).code).toBe(0);
  }
});
afterEach(() => repositories.store.close());

const run = (...args: string[]): Promise<CommandResult> => runInProcess(args, { TOLLKEEPER_REDIS_URL: server.url });
const importing = (...flags: string[]): Promise<CommandResult> =>
  run('token', 'import', '--tenant', 'acme', '--csv', file, ...flags);
const tokens = (tenant = 'acme'): Promise<number> => repositories.tenants.countTokens(tenant);
const tokenOf = async (text: string | number) => {
  const id = await repositories.redis.get(keys.foreign(hashOf(text)));
  return repositories.tokens.get(id ?? '');
};

/** Every mapping leads to a token that has its hash, and every token is led to. */
async function expectWholeRows(): Promise<void> {
  const { redis } = repositories;
  const ids = await redis.zrange(keys.tenantTokens('acme'), 0, '-1');
  for (let at = 0; at < ids.length; at += 500) {
    const page = ids.slice(at, at + 500);
    const records = await Promise.all(page.map((id) => repositories.tokens.get(id)));
    const holders = await Promise.all(records.map(({ secretSha256 }) => redis.get(keys.foreign(secretSha256))));
    expect(holders).toEqual(page);
    const expiries = await Promise.all(records.map(({ secretSha256 }) => redis.pttl(keys.foreign(secretSha256))));
    expect(new Set(expiries)).toEqual(new Set([-1]));
  }
}

test('a row says of its token what the API would, and the flags hold where it says nothing', async () => {
  writeFileSync(
    file,
    '\ufeffsha256,name,scopes,limit,window,algorithm,burst,limits,quota,expiresAt,subject,allowedIps,metadata.shop,description\r\n' +
      `${hashOf(1)},"till, ""east""",a b:c,5,10,token-bucket,7,10/1s 100/1h,1000/month,2099-01-01T00:00:00Z,u1,10.0.0.0/8 ::1,42,"two\nlines"\r\n` +
      `\r\n${hashOf(2).toUpperCase()},,,,,,,,,,,,,\r\n`,
  );
  const { code, stdout } = await importing('--name', 'imported', '--scopes', 'd', '--limit', '9', '--json');
  expect([code, JSON.parse(stdout)]).toEqual([0, { dryRun: false, rows: 2, imported: 2, present: 0, skipped: 0 }]);
  expect(await tokenOf(1)).toMatchObject({
    tenant: 'acme',
    name: 'till, "east"',
    description: 'two\nlines',
    foreign: true,
    mode: 'bearer',
    scopes: ['a', 'b:c'],
    rateLimit: { limit: 5, window: 10, algorithm: 'token-bucket', burst: 7 },
    limits: [
      { limit: 10, window: 1 },
      { limit: 100, window: 3600 },
    ],
    quota: { limit: 1000, period: 'month' },
    expiresAt: Date.UTC(2099, 0, 1),
    subject: 'u1',
    allowedIps: ['10.0.0.0/8', '::1'],
    metadata: { shop: '42' },
  });
  expect(await tokenOf(2)).toMatchObject({ name: 'imported', scopes: ['d'], rateLimit: { limit: 9 } });
  await expectWholeRows();
});

describe('rows that cannot be used', () => {
  const rows = [
    `${hashOf(1)},good,,,`,
    'abc,bad hash,,,',
    `${hashOf(2)},,,,`,
    `${hashOf(3)},bad scope,NOT!,,`,
    `${hashOf(4)},bad limit,,many,`,
    `${hashOf(5)},past,,,2001-01-01T00:00:00Z`,
    `${hashOf(1)},twice,,,`,
    `${hashOf(6)},short`,
    `${hashOf(7)},good too,,,`,
  ];
  const complaints = [
    'line 3, column sha256 must be',
    'line 4, column name is required',
    'line 5, column scopes must be',
    'line 6, column limit: must be a whole number',
    'line 7, column expiresAt must be in the future',
    'line 8, column sha256 is the same as in line 2',
    'line 9: has 2 cells and 5 columns',
  ];
  beforeEach(() => writeFileSync(file, `sha256,name,scopes,limit,expiresAt\n${rows.join('\n')}\n`));

  test('are named by line and column, and nothing is imported', async () => {
    const { code, stdout, stderr } = await importing();
    expect([code, stdout]).toEqual([1, '']);
    for (const complaint of complaints) expect(stderr).toContain(complaint);
    expect(stderr.trimEnd().split('\n').at(-1)).toContain('7 of 9 rows cannot be imported');
    expect(await tokens()).toBe(0);
  });

  test('are left out when asked', async () => {
    const { code, stdout, stderr } = await importing('--skip-invalid');
    expect([code, stdout]).toEqual([0, '2 tokens imported, 0 were there already, 7 left out.\n']);
    for (const complaint of complaints) expect(stderr).toContain(complaint);
    expect(await tokens()).toBe(2);
  });

  test('are not all listed when they are many', async () => {
    writeFileSync(file, `sha256,name\n${'x,y\n'.repeat(1000)}`);
    const { stderr } = await importing();
    expect(stderr.trimEnd().split('\n')).toHaveLength(21);
    expect(stderr).toContain('1000 of 1000');
  });
});

test.each<[string, string, string]>([
  ['an unknown column', 'sha256,nmae\n', 'column 2 that is not known'],
  ['no column sha256', 'name\nx\n', 'no column sha256'],
  ['a column twice', 'sha256,name,name\n', 'column name twice'],
  ['nothing', '', 'is empty'],
  ['a quote that is not closed', `sha256,name\n${hashOf(1)},"open\n`, 'no sound CSV'],
  ['a quote in the middle', `sha256,name\n${hashOf(1)},a"b"\n`, 'no sound CSV at line 2'],
])('a file with %s is refused as a whole, without repeating what stands there', async (_, text, complaint) => {
  writeFileSync(file, text);
  const { code, stderr } = await importing();
  expect([code, stderr]).toEqual([1, expect.stringContaining(complaint)]);
  expect(stderr).not.toContain(hashOf(1));
  expect(await tokens()).toBe(0);
});

test('more rows than the tenant has places are refused before any is imported, with the number that is needed', async () => {
  await run('tenant', 'update', 'acme', '--max-tokens', '3');
  await run('token', 'create', '--tenant', 'acme', '--name', 'there');
  writeFileSync(file, `sha256\n${[1, 2, 3].map(hashOf).join('\n')}\n`);
  const { code, stderr } = await importing('--name', 'x');
  expect([code, stderr]).toEqual([1, expect.stringContaining('--max-tokens 4')]);
  expect(await tokens()).toBe(1);
  await run('tenant', 'update', 'acme', '--max-tokens', '4');
  expect((await importing('--name', 'x')).code).toBe(0);
});

test('a dry run says what would be done and writes nothing, not even to the audit log', async () => {
  await repositories.tokens.import('acme', importDraft(hashOf(1)));
  await repositories.tokens.import('globex', importDraft(hashOf(2)));
  writeFileSync(file, `sha256,name\n${[1, 2, 3].map((n) => `${hashOf(n)},x`).join('\n')}\n`);
  const before = await repositories.redis.xlen(keys.audit());
  const refused = await importing('--dry-run');
  expect(refused).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('line 3, column sha256 was imported for another'),
  });
  const { stdout } = await importing('--dry-run', '--skip-invalid');
  expect(stdout).toBe('1 tokens would be imported, 1 are there already, 1 left out.\n');
  expect([await tokens(), await repositories.redis.xlen(keys.audit())]).toEqual([1, before]);
  expect((await importing('--skip-invalid')).stdout).toBe('1 tokens imported, 1 were there already, 1 left out.\n');
  expect((await tokenOf(2)).tenant).toBe('globex');
});

test('importing again skips what is there, and the audit log says once for each time who did it', async () => {
  writeFileSync(file, `sha256,name\n${[1, 2, 3].map((n) => `${hashOf(n)},x`).join('\n')}\n`);
  for (const imported of [3, 0]) {
    expect((await importing()).stdout).toBe(`${imported} tokens imported, ${3 - imported} were there already.\n`);
  }
  const { stdout } = await run('audit', 'list', '--action', 'token.import', '--result', 'attempted', '--json');
  const { data } = JSON.parse(stdout) as { data: { details: object }[] };
  expect(data.map(({ details }) => details)).toEqual([
    { file: 'tokens.csv', rows: 3, fresh: 0 },
    { file: 'tokens.csv', rows: 3, fresh: 3 },
  ]);
});

test('two who import the same hashes at once make each token once', async () => {
  const drafts = Array.from({ length: 300 }, (_, n) => importDraft(hashOf(n)));
  const other = await openRepositories(server.url);
  const counts = await Promise.all(
    [repositories, other].map(({ store, tokens: by }) => new BulkImport(store, by, 'acme').import(drafts)),
  );
  await other.store.close();
  expect(counts.reduce((sum, { imported }) => sum + imported, 0)).toBe(300);
  expect(await tokens()).toBe(300);
  await expectWholeRows();
});

test('what was broken off between the mapping and its token is taken up again', async () => {
  const { redis, store, tokens: by } = repositories;
  const bulk = new BulkImport(store, by, 'acme');
  await bulk.import([importDraft(hashOf(1)), importDraft(hashOf(2))]);
  // As a killed import leaves them: the mapping is there, its token is not; one of this tenant, one of another.
  const mine = (await redis.get(keys.foreign(hashOf(1)))) as string;
  await by.delete(mine);
  await redis.set(keys.foreign(hashOf(1)), mine);
  await redis.set(keys.foreign(hashOf(3)), 'AAAAAAAAAAAA');
  expect(await bulk.import([1, 2, 3].map((n) => importDraft(hashOf(n))))).toEqual({ imported: 2, present: 1 });
  expect(await tokens()).toBe(3);
  await expectWholeRows();
});

describe('broken off', () => {
  const rowsMany = 8000;
  beforeEach(() => {
    const rows = Array.from({ length: rowsMany }, (_, n) => `${hashOf(n)},token ${n}\n`);
    writeFileSync(file, `sha256,name\n${rows.join('')}`);
  });

  test.each(['SIGINT', 'SIGKILL'] as const)(
    'by %s it leaves whole rows, and the next time it goes on',
    async (signal) => {
      const child = spawnTied(process.execPath, [mainScript, 'token', 'import', '--tenant', 'acme', '--csv', file], {
        env: childEnvironment({ TOLLKEEPER_REDIS_URL: server.url }),
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let stderr = '';
      child.stderr?.on('data', (chunk: Buffer) => {
        stderr += chunk.toString();
      });
      const ended = new Promise<number | null>((done) => {
        child.once('close', (code) => done(code));
      });
      await until(async () => (await tokens()) > 500);
      child.kill(signal);
      const code = await ended;
      const left = await tokens();
      expect(left).toBeLessThan(rowsMany);
      if (signal === 'SIGINT') {
        expect(code).toBe(1);
        expect(stderr).toContain(`broken off after ${left} tokens`);
        expect(stderr.trimEnd().split('\n')).toHaveLength(1);
      }
      await expectWholeRows();
      const { stdout } = await importing();
      expect(stdout).toBe(`${rowsMany - left} tokens imported, ${left} were there already.\n`);
      expect(await tokens()).toBe(rowsMany);
      await expectWholeRows();
    },
  );
});
