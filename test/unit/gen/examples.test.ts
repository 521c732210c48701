import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { exampleFiles, examplesFolder } from '../../../scripts/example-files.js';
import { generators, proxyNames } from '../../../src/gen/proxies.js';
import { type GenOptions, readSettings } from '../../../src/gen/settings.js';

const options: GenOptions = {
  listen: '127.0.0.1:8000',
  upstream: 'http://10.0.0.1:3000',
  verify: 'http://127.0.0.1:8081',
  hmacPrefix: 'X-Tollkeeper-',
  apiKeyHeader: false,
  messageSignatures: true,
};

/** Everything a proxy loads, as one text. */
function textFor(proxy: (typeof proxyNames)[number], changed: Partial<GenOptions> = {}): string {
  const files = generators[proxy](readSettings({ ...options, ...changed }));
  return files.map(({ text }) => text).join('\n');
}

describe('examples/', () => {
  test.each(exampleFiles())('$path is what tollkeeper gen makes (else: npm run docs)', ({ path, text }) => {
    expect(readFileSync(join(examplesFolder, path), 'utf8')).toBe(text);
  });

  test('hold nothing beside the generated files', () => {
    const generated = new Set(exampleFiles().map(({ path }) => path));
    const found = proxyNames.flatMap((proxy) =>
      readdirSync(join(examplesFolder, proxy)).map((file) => `${proxy}/${file}`),
    );
    expect(found.filter((path) => !generated.has(path))).toEqual([]);
  });
});

describe.each(proxyNames)('the configuration for %s', (proxy) => {
  test('says which command made it, and what it says is repeatable', () => {
    expect(textFor(proxy)).toContain(
      `tollkeeper gen ${proxy} --listen 127.0.0.1:8000 --upstream http://10.0.0.1:3000 --verify http://127.0.0.1:8081`,
    );
    const changed = { hmacPrefix: 'X-Acme-', apiKeyHeader: true, messageSignatures: false };
    expect(textFor(proxy, changed)).toContain('--hmac-prefix X-Acme- --api-key-header --no-message-signatures');
  });

  test('ends credentials at the proxy: those that are switched on, under their configured names', () => {
    const usual = textFor(proxy).toLowerCase();
    expect(usual).toContain('authorization');
    expect(usual).toContain('signature-input');
    expect(usual).not.toContain('x-api-key');
    const changed = textFor(proxy, { hmacPrefix: 'X-Acme-', apiKeyHeader: true, messageSignatures: false });
    expect(changed.toLowerCase()).toContain('x-api-key');
    expect(changed.toLowerCase()).toContain('x-acme-content-sha256');
    expect(changed.toLowerCase()).toContain('x-tollkeeper-tenant');
    expect(changed.toLowerCase()).not.toContain('signature-input');
  });

  test('reaches an upstream by HTTPS under its name, and checks its certificate', () => {
    const text = textFor(proxy, { upstream: 'https://api.example.com' });
    expect(text).toContain('api.example.com');
    expect(text).toMatch(/https|ssl verify required|tls/i);
  });
});

test('what cannot run in the tests says so in its head comment', () => {
  for (const proxy of ['traefik', 'envoy'] as const) {
    const [file] = generators[proxy](readSettings(options));
    expect(file?.text.slice(0, 400)).toContain('NOT RUN BY THE TESTS');
  }
});

test.each(['traefik', 'envoy'] as const)('the YAML for %s can be read', (proxy) => {
  for (const { text } of generators[proxy](readSettings(options))) expect(parse(text)).toBeTypeOf('object');
});

test.each([
  [{ listen: '80' }, '--listen'],
  [{ listen: '0.0.0.0:0' }, '--listen'],
  [{ upstream: 'http://10.0.0.1:3000/api' }, '--upstream'],
  [{ upstream: 'ftp://10.0.0.1' }, '--upstream'],
  [{ upstream: 'http://user:secret@10.0.0.1' }, '--upstream'],
  [{ upstream: 'http://a;b' }, '--upstream'],
  [{ upstream: 'http://a b' }, '--upstream'],
  [{ upstream: 'http://a"b' }, '--upstream'],
  [{ upstream: 'http://a\n    evil on' }, '--upstream'],
  [{ upstream: 'http://$host' }, '--upstream'],
  [{ upstream: 'http://{env.SECRET}' }, '--upstream'],
  [{ verify: 'https://127.0.0.1:8081' }, '--verify'],
  [{ verify: 'http://127.0.0.1:8081/verify' }, '--verify'],
  [{ hmacPrefix: 'X-Acme' }, '--hmac-prefix'],
  [{ hmacPrefix: 'X-Acme-"; evil ' }, '--hmac-prefix'],
])('an option that could write configuration of its own is refused: %j', (changed, option) => {
  expect(() => readSettings({ ...options, ...changed })).toThrow(expect.objectContaining({ exitCode: 2 }));
  expect(() => readSettings({ ...options, ...changed })).toThrow(option);
});
