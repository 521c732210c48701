import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { adminClientFile, docsFolder, generatedPages, pageText } from '../../scripts/docs-pages.js';

test.each(generatedPages)('docs/$file says what the code does (else: npm run docs)', (page) => {
  expect(readFileSync(join(docsFolder, page.file), 'utf8')).toBe(pageText(page));
});

test('the client of the admin API is the one generated from its OpenAPI document (else: npm run docs)', () => {
  expect(readFileSync(adminClientFile.path, 'utf8')).toBe(adminClientFile.text);
});

const root = fileURLToPath(new URL('../../', import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const testPaths = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' }).map((path) => `test/${path}`);
const testNames = new Set(testPaths.map((path) => basename(path)));
const probeIds = (JSON.parse(read('test/conformance/http_probes.json')) as { id: string }[]).map(({ id }) => id);
const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };

/** What stands between backticks, without line breaks. */
const quoted = (text: string): string[] => [...text.matchAll(/`([^`\n]+)`/g)].map(([, inner]) => inner as string);

/** `redis-away` is `redis-away.test.ts`; a path counts from the root and may hold one `*`, a name may lie anywhere in test/. */
function isTest(name: string): boolean {
  const [head, tail] = name.split('*') as [string, string | undefined];
  if (tail !== undefined) return testPaths.some((path) => path.startsWith(head) && path.endsWith(tail));
  return name.includes('/') ? existsSync(join(root, name)) : testNames.has(name) || testNames.has(`${name}.test.ts`);
}

function isProbe(pattern: string): boolean {
  if (!/^[a-z][a-z0-9-]*\*?$/.test(pattern)) return false;
  const stem = pattern.replace(/\*$/, '');
  return probeIds.some((id) => (pattern.endsWith('*') ? id.startsWith(stem) : id === stem));
}

function isCommand(text: string): boolean {
  return text.startsWith('npm run ') && scripts[text.split(' ')[2] as string] !== undefined;
}

test.each(['security.md', 'failure-modes.md'])(
  'docs/%s: what holds a row is a test, a probe or a command that exists',
  (file) => {
    let column = -1;
    const held: string[] = [];
    for (const line of read(`docs/${file}`).split('\n')) {
      const cells = line.startsWith('|')
        ? line.split(' | ').map((cell) => cell.replaceAll(/^\|\s*|\s*\|$/g, '').trim())
        : [];
      if (cells.length === 0) column = -1;
      else if (cells.includes('held by')) column = cells.indexOf('held by');
      else if (column >= 0) held.push(...quoted(cells[column] ?? ''));
    }
    expect(held.length).toBeGreaterThan(40);
    expect(held.filter((name) => !isTest(name) && !isProbe(name) && !isCommand(name))).toEqual([]);
  },
);

test('every test file and every npm command that a page names exists', () => {
  const adrs = readdirSync(join(docsFolder, 'adr')).map((name) => `docs/adr/${name}`);
  const pages = readdirSync(docsFolder).flatMap((name) => (name.endsWith('.md') ? [`docs/${name}`] : []));
  for (const page of ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', ...pages, ...adrs]) {
    const names = quoted(read(page));
    const tests = names.filter((name) => /^test\/\S+$|^\S+\.test\.ts$/.test(name));
    const commands = names.filter((name) => name.startsWith('npm run '));
    const missing = [...tests.filter((name) => !isTest(name)), ...commands.filter((name) => !isCommand(name))];
    expect([page, missing]).toEqual([page, []]);
  }
});
