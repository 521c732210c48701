/**
 * A path that the policy lets pass means the same route to backends that parse it themselves: Node's URL, PHP's
 * parse_url and Python's urllib, each decoding as their frameworks do. Thousands of paths go through each at once.
 */
import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { normalisePath } from '../../src/policy/path.js';
import { Policy, type RouteRule, segmentsOf } from '../../src/policy/routes.js';
import { findExecutable } from '../support/process.js';

const patterns = [
  '/',
  '/status',
  '/api/v1/products',
  '/api/v1/products/{id}',
  '/api/v1/products/search',
  '/api/v1/products/{id}/reviews/{review}',
  '/api/v1/admin/tokens',
  '/api/v1/{section}/tokens',
  '/files/{name}',
  '/files/a:b',
  '/files/caf%C3%A9',
  '/{any}',
];
const rule = (pattern: string): RouteRule => ({ methods: ['GET'], pattern, scopes: [], cost: 1, public: false });
const policy = new Policy(false, [], patterns.map(rule));

const words = patterns.flatMap((pattern) => pattern.split('/')).filter((word) => /^[a-z0-9]+$/.test(word));
const word = fc.constantFrom(...words);
/** One character in one of the ways that a client may spell it. */
const spelling = fc.oneof(
  fc.constantFrom(...'abcABC019-._~!$&\'()*+,=:@%;\\#?"<>{}|^` \t\0\x7f/'.split('')),
  fc.integer({ min: 0, max: 255 }).map((byte) => `%${byte.toString(16).padStart(2, '0')}`),
  fc.integer({ min: 0, max: 255 }).map((byte) => `%${byte.toString(16).padStart(2, '0').toUpperCase()}`),
  fc.constantFrom('%2e%2e', '%252e', '..', '.', '%c0%af', '%c3%a9', '%e2%82%ac', '%u002e', '%', '%2'),
);
const escapedWord = fc.tuple(word, fc.nat(20)).map(([text, at]) => {
  const index = at % text.length;
  const escaped = `%${text.charCodeAt(index).toString(16)}`;
  return text.slice(0, index) + escaped + text.slice(index + 1);
});
const segment = fc.oneof(
  { weight: 5, arbitrary: word },
  { weight: 2, arbitrary: escapedWord },
  { weight: 2, arbitrary: fc.array(spelling, { maxLength: 4 }).map((parts) => parts.join('')) },
  { weight: 1, arbitrary: fc.tuple(word, spelling).map((parts) => parts.join('')) },
);
const madeUp = fc.array(segment, { maxLength: 6 }).map((segments) => `/${segments.join('/')}`);
/** Most made-up paths match nothing; these are near to a pattern. */
const nearPattern = fc
  .tuple(fc.constantFrom(...patterns), fc.array(segment, { minLength: 6, maxLength: 6 }), fc.boolean())
  .map(([pattern, fill, isVaried]) => {
    const segments = segmentsOf(pattern).map((part, at) => (part.startsWith('{') ? (fill[at] as string) : part));
    if (isVaried && segments.length > 0) segments[segments.length - 1] = fill[5] as string;
    return `/${segments.join('/')}`;
  });

const seed = Number(process.env.PATH_SEED ?? 20_261_127);
const paths = [...new Set(fc.sample(fc.oneof(madeUp, nearPattern), { numRuns: 200_000, seed }))];
/** What passes, as it is sent upstream, with the route it was let through by. */
const passed = paths.flatMap((raw) => {
  const path = normalisePath(raw);
  const route = path === '' ? undefined : policy.match('GET', path);
  return route === undefined ? [] : [{ path, pattern: route.pattern }];
});

/** The pattern that a backend's own router takes: whole segments, decoded, a literal before a parameter. */
function routedBy(decoded: string): string | undefined {
  const segments = segmentsOf(decoded);
  const fits = patterns
    .map((pattern) => ({ pattern, parts: segmentsOf(pattern).map((part) => decodeURIComponent(part)) }))
    .filter(({ parts }) => parts.length === segments.length)
    .filter(({ parts }) => parts.every((part, at) => part.startsWith('{') || part === segments[at]));
  const rank = ({ parts }: (typeof fits)[number]): string =>
    parts.map((part) => (part.startsWith('{') ? '1' : '0')).join('');
  return fits.sort((one, other) => (rank(one) < rank(other) ? -1 : 1))[0]?.pattern;
}

/** Runs a program once with all paths on its input, one a line; answers the decoded path of each, as JSON lines. */
function parsedBy(program: string, ...args: string[]): string[] {
  const file = findExecutable(program);
  if (file === undefined) throw new Error(`${program} is not installed: run node scripts/setup.mjs --test as root`);
  const input = passed.map(({ path }) => path).join('\n');
  const output = execFileSync(file, args, { input, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  return output
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as string);
}

const php = `
while (($line = fgets(STDIN)) !== false) {
  $path = parse_url('http://backend.test' . rtrim($line, "\\n"), PHP_URL_PATH);
  echo json_encode(rawurldecode($path ?? '/'), JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES), "\\n";
}`;
const python = `
import json, posixpath, sys
from urllib.parse import unquote, urlsplit
for line in sys.stdin:
    path = urlsplit('http://backend.test' + line.rstrip('\\n')).path
    print(json.dumps(posixpath.normpath(unquote(path, errors='strict'))))`;

describe('a path that passes means the same route', () => {
  test('and there are enough of them, by every pattern', () => {
    expect(passed.length).toBeGreaterThan(3000);
    expect(new Set(passed.map(({ pattern }) => pattern))).toEqual(new Set(patterns));
  });

  const parsers: Record<string, () => string[]> = {
    'to Node’s URL': () => passed.map(({ path }) => decodeURIComponent(new URL(path, 'http://backend.test').pathname)),
    'to PHP’s parse_url': () => parsedBy('php', '-r', php),
    'to Python’s urlsplit and normpath': () => parsedBy('python3', '-c', python),
  };
  test.each(Object.entries(parsers))('%s', (_, parse) => {
    const decoded = parse();
    expect(decoded).toHaveLength(passed.length);
    const other = passed.filter(({ pattern }, at) => routedBy(decoded[at] as string) !== pattern);
    expect(other.slice(0, 5)).toEqual([]);
  });
});
