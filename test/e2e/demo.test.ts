/** `tollkeeper demo` as a newcomer meets it. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { usableCores } from '../../src/config/usable-cores.js';
import { childEnvironment, mainScript, runCommand } from '../support/cli.js';
import { endProcess, spawnTied } from '../support/process.js';

interface DemoFacts {
  readonly dataUrl: string;
  readonly adminUrl: string;
  readonly redisSocket: string;
  readonly configPath: string;
  readonly tokens: Readonly<Record<'reader' | 'writer' | 'limited' | 'signing', string>>;
}

let folder: string;
const newFolder = (): void => {
  folder = mkdtempSync(join(tmpdir(), 'tk-demo-'));
};
const clearFolder = (): void => {
  // A demo that a failed test left to be killed could not end its Redis.
  for (const line of redisProcesses()) process.kill(Number.parseInt(line, 10), 'SIGKILL');
  rmSync(folder, { recursive: true, force: true });
};

/** Starts the demo on free ports; answers when it has printed its facts (`--json`) or its introduction. */
async function startDemo(...args: readonly string[]) {
  const child = spawnTied(process.execPath, [mainScript, 'demo', '--port', '0', '--admin-port', '0', ...args], {
    cwd: folder,
    env: childEnvironment({}),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const ended = once(child, 'close');
  await new Promise<void>((resolve, reject) => {
    const read = (chunk: Buffer): void => {
      output += chunk.toString();
      if (output.includes('Ctrl-C ends it all.\n') || /^\{.*\}\n/.test(output)) resolve();
    };
    child.stdout?.on('data', read);
    child.stderr?.on('data', read);
    child.once('close', (code) => reject(new Error(`the demo ended with ${code}: ${output}`)));
  });
  return { child, output, ended };
}

async function startDemoFacts(...args: readonly string[]) {
  const demo = await startDemo('--json', ...args);
  return { ...demo, facts: JSON.parse(demo.output) as DemoFacts };
}

/** Pids of redis-server processes that work in this test's folder. */
function redisProcesses(): string[] {
  const listing = execFileSync('ps', ['-eo', 'pid=,args='], { encoding: 'utf8' });
  return listing.split('\n').filter((line) => line.includes(folder) && line.includes('redis.sock'));
}

async function statusOf(url: string, token?: string, method = 'GET'): Promise<number> {
  const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const response = await fetch(url, { method, headers });
  await response.arrayBuffer();
  return response.status;
}

describe('a demo that runs', () => {
  let demo: Awaited<ReturnType<typeof startDemoFacts>>;
  beforeAll(async () => {
    newFolder();
    demo = await startDemoFacts();
  });
  afterAll(async () => {
    await endProcess(demo.child, 'SIGTERM');
    clearFolder();
  });

  test('the store sees who called and no credential', async () => {
    const response = await fetch(`${demo.facts.dataUrl}/api/v1/products`, {
      headers: { authorization: `Bearer ${demo.facts.tokens.limited}` },
    });
    const text = await response.text();
    const { data, calledBy } = JSON.parse(text) as { data: { name: string }[]; calledBy: Record<string, string> };
    expect(data[0]?.name).toBe('Espresso machine');
    expect(calledBy).toMatchObject({ 'x-tollkeeper-tenant': 'globex', 'x-tollkeeper-scopes': 'products:read' });
    expect(text).not.toContain(demo.facts.tokens.limited);
  });

  test('a second demo in the same folder is refused with a sentence that says what to do', async () => {
    await expect(startDemo()).rejects.toThrow(/ended with 1: tollkeeper: A demo runs already in .*--dir/);
    expect(await statusOf(`${demo.facts.dataUrl}/api/v1/products`, demo.facts.tokens.reader)).toBe(200);
  });

  test('what it writes is for its owner only', async () => {
    const mode = execFileSync('stat', ['-c', '%a', demo.facts.configPath], { encoding: 'utf8' }).trim();
    expect(mode).toBe('600');
    const log = readFileSync(join(folder, '.tollkeeper/tollkeeper.log'), 'utf8');
    for (const secret of Object.values(demo.facts.tokens)) expect(log).not.toContain(secret);
  });

  test('it has a worker for each core, whose lines are in its log and not on the terminal', () => {
    const log = readFileSync(join(folder, '.tollkeeper/tollkeeper.log'), 'utf8');
    const cores = usableCores();
    expect(log).toContain(`"workers":${cores}`);
    if (cores > 1) expect(log).toContain(`"worker":${cores}`);
    expect(demo.output.trim().split('\n')).toHaveLength(1);
  });
});

describe('demo', () => {
  beforeEach(newFolder);
  afterEach(clearFolder);

  test('the printed requests get the answers that stand above them', async () => {
    const { child, output } = await startDemo();
    const lines = output.split('\n');
    const outcomes = new Map<string, string>();
    for (const [index, line] of lines.entries()) {
      const expected = /^# (\d{3}): /.exec(line)?.[1];
      const command = lines[index + 1];
      if (expected === undefined || command === undefined) continue;
      const runnable = command
        .replaceAll('curl -i ', "curl -s -o /dev/null -w '%{http_code}\\n' ")
        .replace('npx tollkeeper', `${process.execPath} ${mainScript}`)
        .replace(/\)"$/, `)" -s -o /dev/null -w '%{http_code}'`);
      const printed = execFileSync('bash', ['-c', runnable], { encoding: 'utf8', cwd: folder }).trim().split('\n');
      outcomes.set(line, `${expected} -> ${printed.at(-1)}`);
    }
    expect([...outcomes.values()]).toEqual([
      '200 -> 200',
      '200 -> 200',
      '401 -> 401',
      '403 -> 403',
      '200 -> 200',
      '429 -> 429',
    ]);
    await endProcess(child, 'SIGINT');
    expect(child.exitCode).toBe(0);
  });

  test.each(['SIGINT', 'SIGTERM'] as const)(
    '%s ends it with exit code 0 and leaves no process and no data',
    async (signal) => {
      const { child } = await startDemoFacts();
      expect(redisProcesses()).toHaveLength(1);
      await endProcess(child, signal);
      expect(child.exitCode).toBe(0);
      expect(redisProcesses()).toEqual([]);
      expect(existsSync(join(folder, '.tollkeeper/redis'))).toBe(false);
    },
  );

  test('with --keep the next run has what was there', async () => {
    const first = await startDemoFacts('--keep');
    const create = ['tenant', 'create', 'initech', '--name', 'Initech', '--config', first.facts.configPath];
    execFileSync(process.execPath, [mainScript, ...create]);
    await endProcess(first.child, 'SIGTERM');

    const second = await startDemoFacts('--keep');
    const tenants = execFileSync(
      process.execPath,
      [mainScript, 'tenant', 'list', '--config', second.facts.configPath, '--json'],
      { encoding: 'utf8' },
    );
    expect(tenants).toContain('initech');
    expect(await statusOf(`${second.facts.dataUrl}/api/v1/products`, second.facts.tokens.reader)).toBe(200);
    expect(await statusOf(`${second.facts.dataUrl}/api/v1/products`, first.facts.tokens.reader)).toBe(401);
    await endProcess(second.child, 'SIGTERM');
  });

  test('after a kill -9 the next run ends the leftover Redis and works', async () => {
    const first = await startDemoFacts();
    await endProcess(first.child, 'SIGKILL');
    const leftover = redisProcesses();
    expect(leftover).toHaveLength(1);

    const second = await startDemoFacts();
    expect(redisProcesses()).toHaveLength(1);
    expect(redisProcesses()).not.toEqual(leftover);
    expect(await statusOf(`${second.facts.dataUrl}/api/v1/products`, second.facts.tokens.reader)).toBe(200);
    await endProcess(second.child, 'SIGTERM');
    expect(redisProcesses()).toEqual([]);
  });

  test('a folder that cannot be made ends it with a sentence, at once', async () => {
    const { code, stderr } = await runCommand(['demo', '--dir', '/proc/none/here', '--port', '0', '--admin-port', '0']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^tollkeeper: Cannot write to \/proc\/none\/here \(ENOENT\): choose another with --dir\.$/m);
  });
});
