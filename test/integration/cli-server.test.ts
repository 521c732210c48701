/** The same commands on the Redis itself and over the admin API: what they print and how they end is the same. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CommandResult, runCommand } from '../support/cli.js';
import { runInProcess } from '../support/command-line.js';
import { type Installation, startInstallation } from '../support/installation.js';
import { type RedisServer, startRedis } from '../support/redis.js';
import type { Sidecar } from '../support/sidecar.js';

const adminKey = 'the-admin-key-of-this-test-0123456789';
const masterKey = Buffer.alloc(32, 7).toString('base64');

let redis: RedisServer;
let installation: Installation;
let sidecar: Sidecar;
let local: Record<string, string>;
let remote: Record<string, string>;
let dir: string;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'tk-cli-server-'));
  redis = await startRedis();
  installation = await startInstallation();
  sidecar = await installation.sidecar({ env: { TOLLKEEPER_ADMIN_KEY: adminKey } });
  local = { TOLLKEEPER_REDIS_URL: redis.url, TOLLKEEPER_MASTER_KEY: masterKey };
  remote = { TOLLKEEPER_SERVER: sidecar.adminUrl, TOLLKEEPER_ADMIN_KEY: adminKey };
});
afterAll(async () => {
  await installation.stop();
  await redis.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** What differs from one installation to another and from one moment to the next, made the same. */
function normalised({ code, stdout, stderr }: CommandResult, names: ReadonlyMap<string, string>): CommandResult {
  const plain = (text: string): string => {
    let same = text
      .replace(/tk_live_[0-9A-Za-z]{12}_[0-9A-Za-z]{38}/g, 'SECRET')
      .replace(/\b[0-9a-f]{64}\b/g, 'HASH')
      .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME');
    for (const [id, name] of names) same = same.replaceAll(id, name);
    return same;
  };
  return { code, stdout: plain(stdout), stderr: plain(stderr) };
}

/** Runs every line in order; `{name}` is the id of the token that a line `name=…` made. */
async function session(lines: readonly string[], env: Readonly<Record<string, string>>): Promise<CommandResult[]> {
  const ids = new Map<string, string>();
  const results: CommandResult[] = [];
  for (const line of lines) {
    const [, name = '', command = ''] = /^(?:(\w+)=)?(.*)$/.exec(line) ?? [];
    const args = command.split(' ').map((word) => word.replace(/\{(\w+)\}/, (_, of: string) => ids.get(of) ?? of));
    const result = await runInProcess(args, env);
    if (name !== '' && result.code !== 0) throw new Error(`${line}: ${result.stderr}`);
    if (name !== '') ids.set(name, (JSON.parse(result.stdout) as { token: { id: string } }).token.id);
    results.push(normalised(result, new Map([...ids].map(([key, id]) => [id, key]))));
  }
  return results;
}

const lines = [
  'tenant create acme --name Acme --max-tokens 4 --limit 1000 --json',
  'tenant create acme --name Again --json',
  'tenant create Bad! --name x --json',
  'tenant create globex --name Globex --reveal-secrets --json',
  'tenant list --json',
  'tenant list --page 2 --per-page 1 --json',
  'tenant show acme --json',
  'tenant show acme',
  'tenant show nobody --json',
  'tenant show ..',
  'tenant update acme --require-https --limit 5 --window 10 --json',
  'tenant update acme --clear-limit --json',
  'till=token create --tenant acme --name till --scopes a,b --limit 5 --add-limit 60/1h --quota 100/month --metadata k=v --json',
  'signer=token create --tenant globex --name signer --mode hmac --json',
  'token create --tenant acme --name x --scopes NOT!,b --json',
  'token create --tenant nobody --name x --json',
  `imported=token import --tenant acme --name old --sha256 ${'ab'.repeat(32)} --json`,
  `token import --tenant acme --name old --sha256 ${'ab'.repeat(32)} --json`,
  'token list --tenant acme --json',
  'token list --tenant acme --per-page 1 --json',
  'token list --tenant nobody --json',
  'token show {till} --json',
  'token show {till} --tenant globex --json',
  'token show AAAAAAAAAAAA --json',
  'token show x --json',
  'token update {till} --name Till --add-limit 10/1s --unset-metadata k --expires-at never --json',
  'token update {till} --clear-limits --tenant acme --json',
  'token update {till} --expires-at 2001-01-01T00:00:00Z --json',
  'token rotate {till} --grace 60 --json',
  'token deactivate {till} --json',
  'token activate {till} --json',
  'token revoke {till} --json',
  'token activate {till} --json',
  'token rotate {till} --json',
  'token reveal {signer} --json',
  'token reveal {imported} --json',
  'token delete {imported} --json',
  'token delete {imported} --json',
  'tenant delete acme --json',
  'tenant delete acme --force --json',
  'tenant list --json',
  'audit verify --json',
  'audit list --result done --json',
  'audit list --action token.revoke --tenant acme --json',
];

describe('every command that manages things', () => {
  let onRedis: CommandResult[];
  let overApi: CommandResult[];
  beforeAll(async () => {
    [onRedis, overApi] = await Promise.all([session(lines, local), session(lines, remote)]);
  });

  test.each(lines.map((line, index) => [line, index] as const))('%s', (line, index) => {
    const [direct, served] = [onRedis[index] as CommandResult, overApi[index] as CommandResult];
    // Who did it is not the same, on purpose.
    const withoutActor = (text: string): string => text.replace(/"actor": \{[^}]*\}/g, '"actor": {}');
    expect({ ...served, stdout: withoutActor(served.stdout) }).toEqual({
      ...direct,
      stdout: withoutActor(direct.stdout),
    });
    expect(direct.stderr.trimEnd().split('\n').length, direct.stderr).toBe(1);
    if (line.startsWith('audit list')) expect(direct.stdout).toContain('"result": "done"');
  });
});

describe('the server', () => {
  const list = (env: Readonly<Record<string, string>>, ...flags: string[]): Promise<CommandResult> =>
    runInProcess(['tenant', 'list', ...flags], env);

  test('is named by a flag too, before or behind the command, with the key in a file', async () => {
    const file = join(dir, 'key');
    writeFileSync(file, `${adminKey}\n`);
    const flags = ['--server', `${sidecar.adminUrl}/`, '--admin-key-file', file];
    expect((await list({}, ...flags)).code).toBe(0);
    expect((await runInProcess([...flags, 'tenant', 'list'])).code).toBe(0);
    expect((await list({ TOLLKEEPER_ADMIN_KEY_FILE: file }, '--server', sidecar.adminUrl)).code).toBe(0);
  });

  test('with a key on the command line is asked, and the person is told who can see it', async () => {
    const { code, stderr } = await list({}, '--server', sidecar.adminUrl, '--admin-key', adminKey);
    expect([code, stderr]).toEqual([0, expect.stringContaining('other users of this machine')]);
    expect(stderr).not.toContain(adminKey);
  });

  test.each<[string, string, Record<string, string>, string[]]>([
    ['without a key', 'TOLLKEEPER_ADMIN_KEY', {}, []],
    ['with a wrong key', 'admin key is not one of', { TOLLKEEPER_ADMIN_KEY: 'wrong-key-wrong-key-wrong' }, []],
    ['with a key that is none', 'characters', { TOLLKEEPER_ADMIN_KEY: 'ä b' }, []],
    ['with a key file that is not there', 'ENOENT', {}, ['--admin-key-file', '/nowhere']],
  ])('%s is not asked in vain', async (_, complaint, env, flags) => {
    const { code, stderr } = await list({ TOLLKEEPER_SERVER: sidecar.adminUrl, ...env }, ...flags);
    expect([code > 0, stderr]).toEqual([true, expect.stringContaining(complaint)]);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  test.each([
    ['http://127.0.0.1:1', 'bad port'],
    ['http://127.0.0.1:2', 'ECONNREFUSED'],
    ['127.0.0.1:9090', 'takes the URL'],
    ['ftp://127.0.0.1', 'takes the URL'],
    ['http://user:password@127.0.0.1:1', 'takes the URL'],
  ])('%s is refused or not there, in one sentence', async (url, complaint) => {
    const { code, stderr } = await list({ TOLLKEEPER_ADMIN_KEY: adminKey }, '--server', url);
    expect([code > 0, stderr]).toEqual([true, expect.stringContaining(complaint)]);
    expect(stderr).not.toContain('password');
  });

  test('that is no admin plane is said to be none', async () => {
    const { code, stderr } = await list({ TOLLKEEPER_ADMIN_KEY: adminKey }, '--server', sidecar.dataUrl);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/admin key is not one of|not as an admin API/)]);
  });

  test.each([
    ['export', 'x'],
    ['import', 'x'],
    ['token', 'rekey'],
  ])('is not for %s %s', async (...args) => {
    const { code, stderr } = await runInProcess([...args, '--server', sidecar.adminUrl], local);
    expect([code, stderr]).toEqual([2, expect.stringContaining('works on the Redis itself')]);
  });
});

test('users and their keys are managed both ways, with the password from standard input', async () => {
  const password = 'correct horse battery';
  const user = async (env: Record<string, string>): Promise<CommandResult[]> => {
    const results = [
      await runCommand(['user', 'add', 'ann', '--role', 'operator', '--json'], env, `${password}\n`),
      await runCommand(['user', 'add', 'bob', '--tenant', 'globex', '--json'], env, `${password}\n`),
      await runCommand(['user', 'add', 'eve', '--role', 'operator'], env, 'short\n'),
      await runCommand(['user', 'add', 'eve', '--role', 'king'], env),
      await runCommand(['user', 'add', 'eve', '--role', 'operator'], env),
      await runCommand(['user', 'passwd', 'bob', '--json'], env, 'another horse battery\n'),
    ];
    const ids = new Map<string, string>();
    const lines = [
      'user list --json',
      'user show bob --json',
      'user show nobody --json',
      'user update bob --role operator --json',
      'user update bob --role owner --json',
      'key=user key create ann --name ci --expires-at 30d --json',
      'user key list ann --json',
      'user key revoke ann {key} --json',
      'user key revoke ann {key} --json',
      'user remove bob --json',
      'user remove bob --json',
    ];
    for (const line of lines) {
      const [, name = '', command = ''] = /^(?:(\w+)=)?(.*)$/.exec(line) ?? [];
      const args = command.split(' ').map((word) => (word === '{key}' ? (ids.get('key') as string) : word));
      const result = await runInProcess(args, env);
      if (name !== '') ids.set(name, (JSON.parse(result.stdout) as { key: { id: string } }).key.id);
      results.push(result);
    }
    return results.map((result) =>
      normalised(
        { ...result, stdout: result.stdout.replace(/tk_admin_\w+/g, 'KEY') },
        new Map([...ids].map(([key, id]) => [id, key])),
      ),
    );
  };
  const [direct, served] = await Promise.all([user(local), user(remote)]);
  expect(served).toEqual(direct);
  expect(direct.map(({ code }) => code)).toEqual([0, 0, 2, 2, 2, 0, 0, 0, 1, 0, 2, 0, 0, 0, 1, 0, 1]);
  for (const { stdout, stderr } of direct) expect(stdout + stderr).not.toContain('horse');
});

test('who used the command line on the Redis itself is in the audit log', async () => {
  const { stdout } = await runInProcess(['audit', 'list', '--action', 'tenant.create', '--json'], local);
  const { data } = JSON.parse(stdout) as { data: { actor: { kind: string; name: string } }[] };
  expect(data[0]?.actor.kind).toBe('command');
  expect(data[0]?.actor.name).toMatch(/^.+@.+$/);
});
