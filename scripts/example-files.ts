/** The configurations in examples/ that `tollkeeper gen` makes; test/unit/gen/examples.test.ts holds them to it. */
import { fileURLToPath } from 'node:url';
import { generators, proxyNames } from '../src/gen/proxies.js';
import { readSettings } from '../src/gen/settings.js';

export const examplesFolder = fileURLToPath(new URL('../examples/', import.meta.url));

/** Path below examples/ and text of every generated file. */
export function exampleFiles(): { readonly path: string; readonly text: string }[] {
  const settings = readSettings({
    listen: '0.0.0.0:80',
    upstream: 'http://127.0.0.1:3000',
    verify: 'http://127.0.0.1:8081',
    hmacPrefix: 'X-Tollkeeper-',
    apiKeyHeader: false,
    messageSignatures: true,
  });
  return proxyNames.flatMap((proxy) =>
    generators[proxy](settings).map(({ name, text }) => ({ path: `${proxy}/${name}`, text })),
  );
}
