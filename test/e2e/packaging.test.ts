/** What is shipped besides the code: npm package, container image, Compose example. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { logCloseMs } from '../../src/app/lifecycle.js';
import { loadConfig } from '../../src/config/load.js';
import { loadPolicy } from '../../src/policy/load.js';
import { spawnTied } from '../support/process.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

function read(path: string): string {
  return readFileSync(`${root}/${path}`, 'utf8');
}

describe('npm package', () => {
  test('holds the program, its scripts and the licence, and no tests or sources', () => {
    const listing = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const [pack] = JSON.parse(listing) as { files: { path: string }[] }[];
    const paths = (pack?.files ?? []).map((file) => file.path);
    expect(paths).toEqual(expect.arrayContaining(['dist/main.js', 'lua/admit.lua', 'LICENSE', 'package.json']));
    expect(paths.filter((path) => /^(src|test|bench|scripts)\/|\.key$|\.tollkeeper/.test(path))).toEqual([]);
  });
});

describe('container image', () => {
  const dockerfile = read('Dockerfile');

  test('every file the Dockerfile copies is there and is let through by .dockerignore', () => {
    const allowed = read('.dockerignore')
      .split('\n')
      .filter((line) => line.startsWith('!'))
      .map((line) => line.slice(1));
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap((match) =>
      (match[1] as string).split(' '),
    );
    expect(copied.length).toBeGreaterThan(0);
    expect(copied.filter((path) => !existsSync(`${root}/${path}`))).toEqual([]);
    expect(copied.filter((path) => !allowed.includes(path))).toEqual([]);
  });

  test('does not run as root', () => {
    expect(dockerfile).toMatch(/^USER 1000:1000$/m);
  });

  describe('health check', () => {
    const [, ...command] = JSON.parse(/CMD (\["node", "-e".*\])$/m.exec(dockerfile)?.[1] ?? '[]') as string[];
    const server = createServer((request, response) => {
      response.statusCode = request.url === '/healthz' ? status : 404;
      response.end();
    });
    let status = 200;
    afterEach(() => {
      server.close();
    });

    test.each([
      [200, 0],
      [503, 1],
    ])('an answer with status %i ends it with %i', async (answered, code) => {
      status = answered;
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      expect(await exitCode(command, port)).toBe(code);
    });

    test('no answer ends it with 1', async () => {
      expect(await exitCode(command, 1)).toBe(1);
    });
  });
});

async function exitCode(args: readonly string[], port: number): Promise<number> {
  const child = spawnTied(process.execPath, args, { env: { TOLLKEEPER_ADMIN_LISTEN: `0.0.0.0:${port}` } });
  const [code] = (await once(child, 'exit')) as [number];
  return code;
}

describe('Compose example', () => {
  const compose = parse(read('examples/compose/compose.yaml')) as {
    services: Record<
      string,
      { environment?: Record<string, string>; ports?: string[]; command?: string[]; stop_grace_period?: string }
    >;
  };

  test('its configuration and policy are accepted', () => {
    const config = loadConfig({ configPath: `${root}/examples/compose/tollkeeper.yaml`, env: {} });
    expect(loadPolicy(config.policy).match('GET', '/api/v1/products')?.scopes).toEqual(['products:read']);
    expect(new URL(config.upstream?.[0] ?? '').hostname).toBe('upstream');
    expect(new URL(config.redisUrl ?? '').hostname).toBe('redis');
    expect(Object.keys(compose.services)).toEqual(['tollkeeper', 'redis', 'upstream', 'prometheus']);
  });

  test('its environment holds known variables only', () => {
    const {
      TOLLKEEPER_MASTER_KEY_FILE: masterKey,
      TOLLKEEPER_ADMIN_KEY_FILE: adminKey,
      ...env
    } = compose.services.tollkeeper?.environment ?? {};
    expect([masterKey, adminKey]).toEqual(['/run/secrets/master_key', '/run/secrets/admin_key']);
    expect(loadConfig({ env }).adminListen).toBe('0.0.0.0:9090');
  });

  test('its Redis keeps its data and evicts nothing', () => {
    const command = compose.services.redis?.command?.join(' ');
    expect(command).toContain('--appendonly yes');
    expect(command).toContain('--maxmemory-policy noeviction');
  });

  test('a stop has the time that it may take: for requests under way, for the rest of the log, and to close', () => {
    const { shutdownTimeoutMs } = loadConfig({ configPath: `${root}/examples/compose/tollkeeper.yaml`, env: {} });
    const graceS = Number(/^(\d+)s$/.exec(compose.services.tollkeeper?.stop_grace_period ?? '')?.[1]);
    expect(graceS * 1000).toBeGreaterThanOrEqual(shutdownTimeoutMs + logCloseMs + 5000);
  });

  test('only the data plane is published beyond this machine', () => {
    const published = Object.entries(compose.services).flatMap(([name, service]) =>
      (service.ports ?? []).filter((port) => !port.startsWith('127.0.0.1:')).map((port) => `${name} ${port}`),
    );
    expect(published).toEqual(['tollkeeper 8080:8080']);
  });

  test('Prometheus scrapes the admin plane', () => {
    expect(read('examples/compose/prometheus.yml')).toContain('tollkeeper:9090');
  });
});
