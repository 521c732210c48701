/** examples/monitoring with the real programs: the rules are sound, and each name in rules and dashboard is exported. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { typesOf } from '../support/exposition.js';
import { call } from '../support/http-client.js';
import { type Installation, type IssuedToken, startInstallation } from '../support/installation.js';
import { freePort } from '../support/ports.js';
import { requireProgram, type ReverseProxy, startProxy } from '../support/proxy.js';
import type { Sidecar } from '../support/sidecar.js';
import { until } from '../support/until.js';
import { defaultWorkers } from '../support/workers.js';

const examples = fileURLToPath(new URL('../../examples/monitoring', import.meta.url));

let installation: Installation;
let sidecar: Sidecar;
let token: IssuedToken;
let prometheus: ReverseProxy;

beforeAll(async () => {
  installation = await startInstallation();
  await installation.tenant('acme');
  token = await installation.token('acme');
  sidecar = await installation.sidecar({ env: defaultWorkers });
  const folder = mkdtempSync(join(tmpdir(), 'tk-prometheus-'));
  copyFileSync(join(examples, 'alerts.yml'), join(folder, 'alerts.yml'));
  const config = readFileSync(join(examples, 'prometheus.yml'), 'utf8')
    .replace('127.0.0.1:9090', `127.0.0.1:${sidecar.adminPort}`)
    .replaceAll('15s', '1s');
  writeFileSync(join(folder, 'prometheus.yml'), config);
  const port = await freePort();
  const listen = `--web.listen-address=127.0.0.1:${port}`;
  const args = ['--config.file=prometheus.yml', '--storage.tsdb.path=data', listen];
  prometheus = await startProxy(requireProgram('prometheus'), args, {}, folder, port);
});

afterAll(async () => {
  await prometheus.stop();
  await installation.stop();
});

async function query(expression: string): Promise<{ metric: Record<string, string>; value: [number, string] }[]> {
  const url = `http://127.0.0.1:${prometheus.port}/api/v1/query?query=${encodeURIComponent(expression)}`;
  const answer = (await call(url)).json() as { status: string; data?: { result: never[] }; error?: string };
  if (answer.status !== 'success') throw new Error(`${expression}: ${answer.error}`);
  return answer.data?.result ?? [];
}

test('promtool takes the rules and the configuration', () => {
  const promtool = requireProgram('promtool');
  const folder = mkdtempSync(join(tmpdir(), 'tk-promtool-'));
  for (const file of ['alerts.yml', 'prometheus.yml']) copyFileSync(join(examples, file), join(folder, file));
  const checked = execFileSync(promtool, ['check', 'config', 'prometheus.yml'], { cwd: folder, encoding: 'utf8' });
  rmSync(folder, { recursive: true });
  expect(checked).toMatch(/SUCCESS: 1[0-9] rules found/);
});

test('every metric that a rule or a panel names is exported', async () => {
  const exported = typesOf((await call(`${sidecar.adminUrl}/metrics`)).text);
  const texts = ['alerts.yml', 'dashboard.json'].map((file) => readFileSync(join(examples, file), 'utf8'));
  const named = new Set(texts.join('\n').match(/\b(?:tollkeeper|process|nodejs)_[a-z0-9_]+/g));
  const unknown = [...named].filter((name) => !exported.has(name.replace(/_bucket$/, '')));
  expect(unknown).toEqual([]);
  expect(named.size).toBeGreaterThan(15);
});

test('every query of the dashboard is one that Prometheus understands', async () => {
  const dashboard = JSON.parse(readFileSync(join(examples, 'dashboard.json'), 'utf8')) as {
    panels: { targets: { expr: string }[] }[];
  };
  for (const { targets } of dashboard.panels) {
    for (const { expr } of targets)
      await query(expr.replaceAll('$instance', '.*').replaceAll('$__rate_interval', '1m'));
  }
});

test('Prometheus scrapes what Tollkeeper counts, and an alert comes up when Redis is away', async () => {
  for (let count = 0; count < 20; count += 1) {
    expect((await call(`${sidecar.dataUrl}/api/v1/products`, { token: token.secret })).status).toBe(200);
  }
  await until(async () => {
    const [sum] = await query('sum(tollkeeper_requests_total{outcome="ok"})');
    return sum?.value[1] === '20';
  });
  await installation.redis.kill();
  await until(async () => {
    await call(`${sidecar.dataUrl}/api/v1/products`, { token: token.secret });
    const alerts = await query('ALERTS{alertname="TollkeeperStoreAway"}');
    return alerts.length > 0;
  });
});
