/**
 * Makes a clone ready to run: Node version, redis-server, dependencies, build. Plain Node without dependencies, since
 * it runs before any are there. Says nothing and takes a moment when nothing is to do.
 *
 * Usage: node scripts/setup.mjs [--test] [--bench]
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { accessSync, constants, existsSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/**
 * Programs that npm does not bring. `for`: '' is needed always, else by the flag of that name. Without a `required`
 * one nothing runs; without another, what uses it is skipped and says so.
 */
const programs = [
  {
    purpose: 'the store that the demo, the tests and the benchmark start',
    for: '',
    required: true,
    found: () => onPath('redis-server') || onPath('valkey-server'),
    debian: ['redis-server'],
    otherwise:
      'Install redis-server or valkey-server (Debian, Ubuntu: apt-get install redis-server; macOS: brew install redis)',
  },
  {
    purpose: 'certificates for the TLS tests',
    for: 'test',
    required: false,
    found: () => onPath('openssl'),
    debian: ['openssl'],
    otherwise: 'Install openssl',
  },
  {
    purpose: 'the signing snippets of docs/hmac.md, which the tests run',
    for: 'test',
    required: false,
    found: () => onPath('python3') && onPath('php'),
    debian: ['python3', 'php-cli'],
    otherwise: 'Install python3 and php-cli',
  },
  {
    purpose: 'the reverse proxies that the end-to-end tests put in front of Tollkeeper',
    for: 'test',
    required: false,
    found: () => onPath('nginx') && onPath('haproxy') && onPath('caddy'),
    debian: ['nginx', 'haproxy', 'caddy'],
    otherwise: 'Install nginx, haproxy (with Lua) and caddy',
  },
  {
    purpose: 'the tests that scrape with a real Prometheus and check the alert rules of examples/monitoring',
    for: 'test',
    required: false,
    found: () => onPath('prometheus') && onPath('promtool'),
    debian: ['prometheus'],
    otherwise: 'Install prometheus (with promtool)',
  },
  {
    purpose: 'the tests of clocks that are wrong or jump',
    for: 'test',
    required: false,
    found: () => process.platform !== 'linux' || faketimeLibrary() !== undefined,
    debian: ['libfaketime'],
    otherwise: 'Install libfaketime',
  },
  {
    purpose: 'pinning the processes of the benchmark to cores',
    for: 'bench',
    required: false,
    found: () => onPath('taskset'),
    debian: ['util-linux'],
    otherwise: 'Install taskset (util-linux)',
  },
  {
    purpose: 'the peers nginx-proxy and nginx-lua-redis of the benchmark',
    for: 'bench',
    required: false,
    found: () =>
      onPath('nginx') &&
      existsSync('/usr/lib/nginx/modules/ngx_http_lua_module.so') &&
      existsSync('/usr/share/lua/5.1/nginx/redis.lua'),
    debian: ['nginx', 'libnginx-mod-http-lua', 'lua-nginx-redis'],
    otherwise: 'Install nginx with its Lua module and lua-nginx-redis',
  },
];

checkNode();
installPrograms(process.argv.slice(2).map((flag) => flag.replace(/^--/, '')));
installDependencies();
build();

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if ((major === 20 && minor >= 18) || major === 21 || major === 22) return;
  fail(`Tollkeeper needs Node.js 20.18 or newer, below 23; this is ${process.version}: install Node.js 20 or 22.`);
}

function installPrograms(purposes) {
  const missing = programs.filter(
    (program) => (program.for === '' || purposes.includes(program.for)) && !program.found(),
  );
  if (missing.length === 0) return;
  if (mayUseApt()) aptInstall(missing.flatMap((program) => program.debian));
  for (const program of missing) {
    if (program.found()) continue;
    const sentence = `${program.otherwise}: ${program.purpose}.`;
    if (program.required) fail(`${sentence} Then run the command again.`);
    say(`${sentence} Going on without.`);
  }
}

function mayUseApt() {
  return process.platform === 'linux' && process.getuid?.() === 0 && onPath('apt-get');
}

/** Installs Debian packages; their services are kept from starting (https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt). */
function aptInstall(packages) {
  say(`installing ${packages.join(', ')} with apt-get`);
  const policy = '/usr/sbin/policy-rc.d';
  const ownPolicy = !existsSync(policy);
  if (ownPolicy) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    const options = { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } };
    const updated = run('apt-get', ['update', '-q'], options);
    const installed = run('apt-get', ['install', '-q', '-y', '--no-install-recommends', ...packages], options);
    if (installed.failed) say(`apt-get could not install them:\n${installed.output || updated.output}`);
  } finally {
    if (ownPolicy) rmSync(policy, { force: true });
  }
}

function installDependencies() {
  if (dependenciesMatchLock()) return;
  say('installing dependencies with npm');
  const options = ['--include=dev', '--no-audit', '--no-fund', '--loglevel=error'];
  let { failed, output } = run('npm', ['ci', ...options]);
  // A lock file written on one platform may lack optional packages of others, which `npm ci` does not forgive;
  // `npm install --no-save` takes the same locked versions and integrity sums and changes no file.
  if (failed && output.includes('EUSAGE')) ({ failed, output } = run('npm', ['install', '--no-save', ...options]));
  if (failed) fail(`npm failed: check the network and the npm registry, then run the command again.\n${output}`);
}

/** Compares package-lock.json with the record npm keeps of what it installed, written when an install is complete. */
function dependenciesMatchLock() {
  const wanted = readJson(join(root, 'package-lock.json'))?.packages ?? {};
  const installed = readJson(join(root, 'node_modules/.package-lock.json'))?.packages;
  if (installed === undefined) return false;
  return Object.entries(wanted).every(([path, entry]) => {
    const found = installed[path];
    // Optional packages are those of other platforms.
    if (found === undefined) return path === '' || entry.optional === true || entry.peer === true;
    return found.version === entry.version && found.integrity === entry.integrity;
  });
}

function build() {
  const stamp = join(root, 'node_modules/.tollkeeper-build');
  const inputs = buildInputs();
  if (existsSync(join(root, 'dist/main.js')) && readText(stamp) === inputs) return;
  say('building');
  rmSync(stamp, { force: true });
  const { failed, output } = run('npm', ['run', '--silent', 'build']);
  if (failed) fail(`The build failed:\n${output}`);
  writeFileSync(stamp, inputs);
}

/** A digest of name, size and time of everything the compiler reads; a deleted file changes it too. */
function buildInputs() {
  const digest = createHash('sha256');
  const files = readdirSync(join(root, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  for (const name of ['tsconfig.json', 'tsconfig.build.json', 'package-lock.json']) files.push(join(root, name));
  for (const file of files.sort()) {
    const { size, mtimeMs } = statSync(file);
    digest.update(`${file}\0${size}\0${mtimeMs}\n`);
  }
  return digest.digest('hex');
}

/** Where Debian keeps it: in the folder of the machine's architecture. */
function faketimeLibrary() {
  const folders = existsSync('/usr/lib') ? readdirSync('/usr/lib') : [];
  return folders
    .map((folder) => join('/usr/lib', folder, 'faketime/libfaketime.so.1'))
    .find((library) => existsSync(library));
}

function onPath(name) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin'];
  return folders.some((folder) => isExecutable(join(folder, name)));
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function run(command, args, options = {}) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: 'utf8', ...options });
  return {
    failed: error !== undefined || status !== 0,
    output: `${stdout ?? ''}${stderr ?? ''}${error?.message ?? ''}`.trim(),
  };
}

function readText(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

function readJson(path) {
  const text = readText(path);
  return text === undefined ? undefined : JSON.parse(text);
}

function say(line) {
  process.stderr.write(`setup: ${line}\n`);
}

function fail(sentence) {
  say(sentence);
  process.exit(1);
}
