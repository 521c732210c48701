/** scripts/setup.mjs on clones of every state: fresh, ready, changed, broken. npm and apt-get are stand-ins that note their calls. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const script = fileURLToPath(new URL('../../scripts/setup.mjs', import.meta.url));

let clone: string;
let bin: string;

beforeEach(() => {
  clone = mkdtempSync(join(tmpdir(), 'tk-setup-'));
  bin = join(clone, 'bin');
  for (const folder of ['bin', 'scripts', 'src', 'node_modules']) mkdirSync(join(clone, folder));
  copyFileSync(script, join(clone, 'scripts/setup.mjs'));
  const lock = { packages: { '': { name: 'x' }, 'node_modules/a': { version: '1.0.0', integrity: 'sha512-a' } } };
  write('package-lock.json', JSON.stringify(lock));
  write('tsconfig.json', '{}');
  write('tsconfig.build.json', '{}');
  write('src/main.ts', 'export {};');
  symlinkSync(process.execPath, join(bin, 'node'));
  symlinkSync('/bin/sh', join(bin, 'sh'));
  for (const tool of ['mkdir', 'cp', 'chmod', 'touch']) symlinkSync(`/bin/${tool}`, join(bin, tool));
  program('redis-server', '');
  program(
    'npm',
    `case "$1" in
      ci) cp package-lock.json node_modules/.package-lock.json ;;
      run) mkdir -p dist && touch dist/main.js ;;
    esac`,
  );
});

afterEach(() => {
  rmSync(clone, { recursive: true, force: true });
});

function write(path: string, text: string): void {
  writeFileSync(join(clone, path), text);
}

/** A shell script on PATH that notes its call and then does `body`. */
function program(name: string, body: string): void {
  const path = join(bin, name);
  writeFileSync(path, `#!/bin/sh\necho "${name} $*" >> '${join(clone, 'calls')}'\n${body}\n`);
  chmodSync(path, 0o755);
}

function calls(): string[] {
  const path = join(clone, 'calls');
  const lines = existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : [];
  rmSync(path, { force: true });
  return lines.map((line) => line.split(' ').slice(0, 2).join(' '));
}

/** Runs the script in the clone with nothing on PATH but the stand-ins. */
function setup(...args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...args, join(clone, 'scripts/setup.mjs')], {
    env: { PATH: bin },
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

const silent = { status: 0, stdout: '', stderr: '' };

describe('setup', () => {
  test('installs and builds a fresh clone, then has nothing to do and says nothing', () => {
    expect(setup()).toMatchObject({ status: 0, stderr: 'setup: installing dependencies with npm\nsetup: building\n' });
    expect(calls()).toEqual(['npm ci', 'npm run']);
    expect(setup()).toEqual(silent);
    expect(calls()).toEqual([]);
  });

  test.each([
    ['changed', () => write('src/main.ts', 'export const changed = true;')],
    ['added', () => write('src/added.ts', '')],
    ['deleted', () => rmSync(join(clone, 'src/main.ts'))],
  ])('builds again when a source file was %s', (_, change) => {
    setup();
    calls();
    change();
    expect(setup()).toMatchObject({ status: 0, stderr: 'setup: building\n' });
    expect(calls()).toEqual(['npm run']);
  });

  test('installs again when the lock file asks for another version', () => {
    setup();
    calls();
    const lock = { packages: { 'node_modules/a': { version: '1.0.1', integrity: 'sha512-b' } } };
    write('package-lock.json', JSON.stringify(lock));
    setup();
    expect(calls()).toContain('npm ci');
  });

  test('takes a package of another platform for what it is and does not install again', () => {
    setup();
    calls();
    const installed = { packages: { 'node_modules/a': { version: '1.0.0', integrity: 'sha512-a' } } };
    const foreign = { version: '1.0.0', integrity: 'sha512-f', optional: true, os: ['win32'] };
    write('node_modules/.package-lock.json', JSON.stringify(installed));
    write(
      'package-lock.json',
      JSON.stringify({ packages: { ...installed.packages, 'node_modules/foreign': foreign } }),
    );
    setup();
    expect(calls()).not.toContain('npm ci');
  });

  test('installs the locked versions also where npm ci finds the lock file incomplete', () => {
    program(
      'npm',
      'if [ "$1" = ci ]; then echo "npm error code EUSAGE"; exit 1; fi; mkdir -p dist; touch dist/main.js',
    );
    expect(setup().status).toBe(0);
    expect(calls()).toEqual(['npm ci', 'npm install', 'npm run']);
  });

  test('a failed install ends it with what npm said', () => {
    program('npm', 'echo "npm error code ENOTFOUND"; exit 1');
    const { status, stderr } = setup();
    expect(status).toBe(1);
    expect(stderr).toMatch(/npm failed: check the network.*\n.*ENOTFOUND/);
  });

  test('a failed build ends it, and the next run builds again', () => {
    const install = 'if [ "$1" = ci ]; then cp package-lock.json node_modules/.package-lock.json; exit 0; fi';
    program('npm', `${install}; mkdir -p dist; touch dist/main.js; echo "error TS2322"; exit 2`);
    for (let time = 0; time < 2; time++) {
      const { status, stderr } = setup();
      expect(status).toBe(1);
      expect(stderr).toMatch(/The build failed:\n.*TS2322/);
    }
  });

  test.each(['18.20.8', '20.17.0', '23.0.0', '24.1.0'])('refuses Node %s in one sentence', (version) => {
    const pretend = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } })`;
    const { status, stderr } = setup('--import', `data:text/javascript,${encodeURIComponent(pretend)}`);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^setup: Tollkeeper needs Node\.js 20\.18 or newer.*\n$/);
    expect(calls()).toEqual([]);
  });

  test('without redis-server and without apt-get it says what to install', () => {
    rmSync(join(bin, 'redis-server'));
    const { status, stderr } = setup();
    expect(status).toBe(1);
    expect(stderr).toMatch(/^setup: Install redis-server or valkey-server .*\n$/);
  });

  test('valkey-server will do', () => {
    rmSync(join(bin, 'redis-server'));
    program('valkey-server', '');
    expect(setup().status).toBe(0);
  });

  test.skipIf(process.getuid?.() !== 0 || process.platform !== 'linux')(
    'as root it installs redis-server with apt-get and keeps its service from starting',
    () => {
      rmSync(join(bin, 'redis-server'));
      const policy = '/usr/sbin/policy-rc.d';
      const before = existsSync(policy);
      program(
        'apt-get',
        `if [ "$1" = install ]; then [ -x ${policy} ] && cp "$(command -v npm)" "${bin}/redis-server"; fi`,
      );
      expect(setup().status).toBe(0);
      expect(calls().slice(0, 2)).toEqual(['apt-get update', 'apt-get install']);
      expect(existsSync(policy)).toBe(before);
    },
  );
});
