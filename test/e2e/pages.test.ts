/** What the pages print to be pasted is run as it is printed: the settings of Redis, and the drill of a restore. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { childEnvironment, mainScript, runCommand } from '../support/cli.js';
import { startInstallation } from '../support/installation.js';
import { freePort } from '../support/ports.js';
import { findExecutable } from '../support/process.js';
import { startRedis } from '../support/redis.js';

const page = (name: string): string =>
  readFileSync(fileURLToPath(new URL(`../../docs/${name}`, import.meta.url)), 'utf8');

/** The first block of code behind `heading`. */
function blockBehind(heading: string, text: string): string {
  const from = text.indexOf(`\n${heading}\n`);
  const block = /```\w*\n([\s\S]*?)```/.exec(text.slice(from));
  if (from < 0 || block === null) throw new Error(`There is no block of code behind "${heading}".`);
  return block[1] as string;
}

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'tk-pages-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test('docs/operations.md: a redis.conf of the printed settings starts a server that doctor has nothing to say of', async () => {
  const conf = join(dir, 'redis.conf');
  writeFileSync(conf, blockBehind('### Settings of every redis-server', page('operations.md')));
  const redis = await startRedis({ args: ['--include', conf] });
  try {
    const { stdout } = await runCommand(['doctor', '--json'], { TOLLKEEPER_REDIS_URL: redis.url });
    const { checks } = JSON.parse(stdout) as { checks: { check: string; status: string; found: string }[] };
    const ofSettings = checks.filter(({ check }) => /^redis (persistence|eviction|freeing)$/.test(check));
    expect(ofSettings.map(({ check, status, found }) => [check, status, found])).toEqual([
      ['redis persistence', 'ok', 'appendonly yes, appendfsync everysec'],
      ['redis eviction', 'ok', 'noeviction'],
      ['redis freeing', 'ok', 'lazyfree-lazy-expire yes'],
    ]);
  } finally {
    await redis.stop();
  }
});

test('docs/operations.md: so does one with the settings that Sentinels need beside them', async () => {
  const conf = join(dir, 'sentinels.conf');
  writeFileSync(conf, blockBehind('### Sentinels', page('operations.md')));
  const redis = await startRedis({ args: ['--include', conf] });
  try {
    expect(await redis.client().config('GET', 'min-replicas-*')).toEqual(
      expect.arrayContaining(['min-replicas-to-write', '1', 'min-replicas-max-lag', '3']),
    );
  } finally {
    await redis.stop();
  }
});

describe('docs/backup.md: the drill, pasted into a shell, restores and finds nothing that fails', () => {
  test.each([
    ['with Bearer tokens only, and no master key', false],
    ['with HMAC tokens and their master key', true],
  ])('%s', async (_, hasHmac) => {
    const bash = findExecutable('bash');
    if (
      findExecutable('redis-server') === undefined ||
      findExecutable('redis-cli') === undefined ||
      bash === undefined
    ) {
      throw new Error('The drill names redis-server and redis-cli: put both on PATH.');
    }
    const installation = await startInstallation();
    const drillDir = mkdtempSync(join(dir, 'drill-'));
    const port = await freePort();
    try {
      await installation.tenant('acme');
      await installation.token('acme', ...(hasHmac ? ['--mode', 'hmac'] : []));
      const block = blockBehind('## Drill', page('backup.md'));
      const file = /import (\S+)/.exec(block)?.[1] as string;
      await installation.command('export', join(drillDir, file));
      writeFileSync(join(drillDir, 'tollkeeper'), `#!/bin/sh\nexec '${process.execPath}' '${mainScript}' "$@"\n`, {
        mode: 0o755,
      });
      const env = {
        PATH: [drillDir, process.env.PATH].join(delimiter),
        TMPDIR: drillDir,
        ...(hasHmac ? { TOLLKEEPER_MASTER_KEY: installation.env.TOLLKEEPER_MASTER_KEY as string } : {}),
      };
      // The port of the page may be in use here.
      const output = execFileSync(bash, ['-ec', block.replaceAll('6400', String(port))], {
        cwd: drillDir,
        env: childEnvironment(env),
        encoding: 'utf8',
        timeout: 60_000,
      });
      expect(output).toMatch(/\bacme\b/);
      expect(output).toMatch(hasHmac ? /masterKey.*opens all 1 HMAC tokens/ : /masterKey.*there are no HMAC tokens/);
    } finally {
      // Ended by the drill, unless that has failed half way.
      try {
        execFileSync('redis-cli', ['-p', String(port), 'shutdown', 'nosave'], { stdio: 'pipe' });
      } catch {
        // it is not running
      }
      await installation.stop();
    }
  });
});
