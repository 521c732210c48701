import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { configurationPage, exampleFile } from '../../../src/config/describe.js';
import { loadConfig } from '../../../src/config/load.js';
import { configKeys, defaultOf, environmentName } from '../../../src/config/schema.js';

const folder = mkdtempSync(join(tmpdir(), 'tk-describe-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function load(text: string) {
  const configPath = join(folder, 'example.yaml');
  writeFileSync(configPath, text);
  return loadConfig({ configPath, env: {} });
}

test('the example file is accepted as it stands and says the defaults', () => {
  const config = load(exampleFile());
  for (const key of configKeys) {
    if (defaultOf(key) !== undefined) expect(config[key], key).toEqual(defaultOf(key));
  }
  expect(config.policy?.kind).toBe('inline');
});

test('every line that is commented out in the example is a right one', () => {
  const commented = exampleFile().replace(/^# (?=[a-zA-Z]+:)/gm, '');
  // Files of secrets do not exist here; certificates need a Redis and an upstream with TLS.
  const text = commented
    .replace(/^\w+(Key|Password)File:.*$/gm, '')
    .replaceAll('redis://', 'rediss://')
    .replace('upstream: [http://', 'upstream: [https://');
  // Tokens lie in one Redis: one of the three ways to name it at a time.
  const server = text.replace(/^redis(Cluster|Sentinel\w*|User):.*$/gm, '');
  const cluster = text.replace(/^redis(Url|Sentinel\w*):.*$/gm, '');
  const sentinel = text.replace(/^redis(Url|Cluster):.*$/gm, '');
  for (const form of [server, cluster, sentinel]) {
    expect(load(form)).toMatchObject({ tenantHost: '*.example.com', tlsKey: '/etc/tollkeeper/tls.key' });
  }
});

test('the page names every key and its variable', () => {
  const page = configurationPage();
  for (const key of configKeys) expect(page).toContain(`| \`${key}\` | \`${environmentName(key)}\` |`);
});
