/** The same commands on the Redis itself and over the admin API: what they print and how they end is the same. */
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CommandResult, childEnvironment, mainScript, runCommand } from '../support/cli.js';
import { runInProcess } from '../support/command-line.js';
import { type Installation, type IssuedToken, startInstallation } from '../support/installation.js';
import { spawnTied } from '../support/process.js';
import { type RedisServer, startRedis } from '../support/redis.js';
import type { Sidecar } from '../support/sidecar.js';
import { until } from '../support/until.js';

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
    ['logs', 'verify'],
    ['doctor', '--json'],
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

test('a personal key and its password on standard input, behind the one of the new user, make a user', async () => {
  const [own, ofNew] = ['пароль été пароль', 'another horse battery'];
  await runCommand(['user', 'add', 'olaf', '--role', 'operator'], remote, `${own}\n`);
  const made = await runInProcess(['user', 'key', 'create', 'olaf', '--name', 'ci', '--json'], remote);
  const env = { ...remote, TOLLKEEPER_ADMIN_KEY: (JSON.parse(made.stdout) as { secret: string }).secret };
  const add = (input: string) => runCommand(['user', 'add', 'mia', '--role', 'operator', '--json'], env, input);
  expect(await add(`${ofNew}\n`)).toMatchObject({ code: 2, stderr: expect.stringContaining('once more') as unknown });
  expect((await add(`${ofNew}\nwrong\n`)).stderr).toContain('password is wrong');
  expect((await add(`${ofNew}\n${own}\n`)).code).toBe(0);
});

test('who used the command line on the Redis itself is in the audit log', async () => {
  const { stdout } = await runInProcess(['audit', 'list', '--action', 'tenant.create', '--json'], local);
  const { data } = JSON.parse(stdout) as { data: { actor: { kind: string; name: string } }[] };
  expect(data[0]?.actor.kind).toBe('command');
  expect(data[0]?.actor.name).toMatch(/^.+@.+$/);
});

describe('what was called', () => {
  let token: IssuedToken;

  const call = async (path: string, id: string): Promise<void> => {
    const headers = { authorization: `Bearer ${token.secret}`, 'x-request-id': id };
    await (await fetch(`${sidecar.dataUrl}${path}`, { headers })).arrayBuffer();
  };

  beforeAll(async () => {
    await installation.tenant('shop');
    token = await installation.token('shop', '--limit', '1000');
    for (let n = 0; n < 5; n++) await call('/api/v1/products', `called-${n}`);
    await call('/api/v1/admin/tokens', 'refused');
    await until(async () => {
      const { stdout } = await runInProcess(['logs', '--tenant', 'shop', '--json'], installation.env);
      return stdout.trimEnd().split('\n').length === 6;
    });
  });

  test.each<[string, number, RegExp]>([
    ['logs --tenant shop', 0, /(.* 200 ok GET .*\n){5}.* 403 insufficient-scope/],
    ['logs --tenant shop --json', 0, /"requestId":"called-0"(.*\n)+.*"requestId":"refused"/],
    ['logs --tenant shop --limit 2 --json', 0, /^.*"called-4".*\n.*"refused".*\n$/],
    ['logs --tenant shop --limit 0', 0, /^$/],
    ['logs --tenant shop --since 1h --json', 0, /"called-0"(.*\n)+.*"refused"/],
    ['logs --tenant shop --since 1h --status 4xx --method get --json', 0, /^.*"refused".*\n$/],
    ['logs --tenant shop --token {token} --path /api/v1/products --limit 3', 0, /^(.* 200 ok .*\n){3}$/],
    ['logs --tenant shop --until 1h', 0, /^$/],
    ['logs --tenant shop --export csv', 0, /^id,time,.*\r\n(.*,200,ok,.*\r\n){5}.*,403,insufficient-scope,.*\r\n$/],
    ['logs --tenant shop --export ndjson --status 403', 0, /^.*"refused".*\n$/],
    ['logs --tenant shop --status 9xx', 2, /^$/],
    ['logs --tenant shop --since yesterday', 2, /^$/],
    ['usage --tenant shop', 0, /^lifetime +6 +83\.3 %/m],
    ['usage --token {token}', 0, /^insufficient-scope +1$/m],
    ['usage', 2, /^$/],
    ['explain --request-id refused', 0, /^what to do +Ask for the scope/m],
    ['explain --request-id refused --json', 0, /"insufficient-scope"/],
    ['explain --request-id never-seen', 1, /^$/],
    ['explain --request GET', 2, /^$/],
    ['explain --token {token} --request POST_/api/v1/nowhere?a=b', 0, /^route +fail: route-not-allowed/m],
  ])('is the same over the API as on its Redis: %s', async (line, code, printed) => {
    const args = line.split(' ').map((word) => word.replace('{token}', token.id).replace('_', ' '));
    const [direct, served] = await Promise.all([runInProcess(args, installation.env), runInProcess(args, remote)]);
    // What is left of a limit comes back while both are asked.
    const told = ({ stdout, ...rest }: CommandResult) => ({
      ...rest,
      stdout: stdout.replace(/\d+ of 1000 left.*/, ''),
    });
    expect(told(served)).toEqual(told(direct));
    expect([direct.code, direct.stdout]).toEqual([code, expect.stringMatching(printed)]);
  });

  test('is explained by the policy in force there, with the secret headers from a file', async () => {
    const file = join(dir, 'headers');
    writeFileSync(file, `Authorization: Bearer ${token.secret}\n`);
    const args = ['explain', '--headers-file', file, '--request', 'GET /api/v1/products', '--json'];
    const [direct, served] = [await runInProcess(args, installation.env), await runInProcess(args, remote)];
    const told = ({ stdout }: CommandResult): unknown => {
      const { verdict, token: seen, route } = JSON.parse(stdout) as Record<string, unknown>;
      return { verdict, seen, route };
    };
    expect(told(served)).toEqual(told(direct));
    expect(told(served)).toMatchObject({ verdict: { admitted: true }, seen: { id: token.id } });
  });

  test('is followed over the API until an interrupt, which ends it as done', async () => {
    const child = spawnTied(process.execPath, [mainScript, 'logs', '--tenant', 'shop', '--follow', '--json'], {
      env: childEnvironment(remote),
      stdio: 'pipe',
    });
    let printed = '';
    child.stdout?.on('data', (part: Buffer) => {
      printed += part.toString();
    });
    await until(async () => {
      await call('/api/v1/products', 'followed');
      return printed.includes('"requestId":"followed"');
    });
    child.kill('SIGINT');
    expect(await once(child, 'close')).toEqual([0, null]);
    expect(printed).not.toContain('"refused"');
  });

  test.each([
    ['logs', '--tenant SLUG'],
    ['logs --tenant _', '--tenant SLUG'],
    ['logs --tenant shop --follow --since 1h', 'begins now'],
  ])('%s is refused over the API in words', async (line, complaint) => {
    const { code, stderr } = await runInProcess(line.split(' '), remote);
    expect([code, stderr]).toEqual([2, expect.stringContaining(complaint)]);
  });

  test.each(['logs --tenant nobody', 'logs --tenant nobody --export csv', 'logs --tenant nobody --follow'])(
    '%s is no empty log but one that there is not',
    async (line) => {
      const { code, stderr } = await runInProcess(line.split(' '), remote);
      expect([code, stderr]).toEqual([1, expect.stringContaining('no tenant nobody')]);
    },
  );
});
