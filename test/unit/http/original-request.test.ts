import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { OriginalRequest, OriginalRequestReader } from '../../../src/http/original-request.js';

interface Reading {
  readonly original: OriginalRequest;
  /** '' when the original request is known. */
  readonly fault: string;
  readonly others: readonly string[];
}

function read(fields: readonly (readonly [string, string])[], requestLine?: readonly [string, string]): Reading {
  const others: string[] = [];
  const reader = new OriginalRequestReader('X-Acme-', (name, value) => others.push(`${name}: ${value}`));
  // A reader is used again and again: what an earlier request left behind must not count.
  reader.begin(new OriginalRequest());
  for (const name of ['x-forwarded-uri', 'x-forwarded-uri']) reader.field(name, '/earlier');
  reader.finish();
  const original = new OriginalRequest();
  reader.begin(original);
  for (const [name, value] of fields) reader.field(name, value);
  if (requestLine !== undefined) reader.takeRequestLine(...requestLine);
  return { original, fault: reader.finish()?.detail ?? '', others };
}

const method = ['x-forwarded-method', 'GET'] as const;
const uri = ['x-forwarded-uri', '/a?b=1'] as const;

describe('the original request', () => {
  test.each([
    [[method, uri], { method: 'GET', target: '/a?b=1', host: '', scheme: '', forwardedFor: '' }],
    [[['x-original-method', 'PUT'] as const, ['x-original-uri', '/a'] as const], { method: 'PUT', target: '/a' }],
    [[method, ['x-original-url', '/a?'] as const], { target: '/a?', host: '', scheme: '' }],
    [
      [method, ['x-original-url', 'https://shop.test:8443/a//b?c=http://x/'] as const],
      { target: '/a//b?c=http://x/', host: 'shop.test:8443', scheme: 'https' },
    ],
    [
      [method, uri, ['x-original-url', 'http://shop.test/a?b=1'] as const, ['x-forwarded-host', 'shop.test'] as const],
      { target: '/a?b=1', host: 'shop.test', scheme: 'http' },
    ],
    [
      [method, uri, ['x-forwarded-for', '10.0.0.1'] as const, ['x-forwarded-for', '[::1]:4711'] as const],
      { forwardedFor: '10.0.0.1, [::1]:4711' },
    ],
    [[method, uri, ['x-acme-content-sha256', 'abc'] as const], { contentSha256: 'abc' }],
    [[method, uri, ['x-forwarded-uri', ''] as const].slice(0, 2), { target: '/a?b=1' }],
  ])('is what the headers say: %j', (fields, facts) => {
    const { original, fault } = read(fields);
    expect(fault).toBe('');
    expect(original).toMatchObject(facts);
  });

  test.each([
    [[uri], 'the method'],
    [[method], 'the path'],
    [[], 'the method'],
    [[['x-forwarded-method', ''] as const, uri], 'the method'],
    [[method, uri, uri], 'more than once'],
    [[method, method, uri], 'more than once'],
    [[method, uri, ['x-forwarded-host', 'a'] as const, ['x-forwarded-host', 'a'] as const], 'more than once'],
    [[method, uri, ['x-forwarded-proto', 'http'] as const, ['x-forwarded-proto', 'https'] as const], 'more than once'],
    [[method, uri, ['x-original-for', '::1'] as const, ['x-original-for', '::1'] as const], 'more than once'],
    [[method, uri, ['x-original-method', 'POST'] as const], 'contradict'],
    [[method, uri, ['x-original-method', 'get'] as const], 'contradict'],
    [[method, uri, ['x-original-uri', '/a'] as const], 'contradict'],
    [[method, uri, ['x-original-url', 'http://shop.test/a'] as const], 'contradict'],
    [[method, uri, ['x-original-url', 'http://a/a?b=1'] as const, ['x-forwarded-host', 'b'] as const], 'contradict'],
    [
      [method, uri, ['x-original-url', 'http://a/a?b=1'] as const, ['x-forwarded-proto', 'https'] as const],
      'contradict',
    ],
    [[method, uri, ['x-forwarded-for', '10.0.0.1'] as const, ['x-original-for', '10.0.0.2'] as const], 'contradict'],
    [[['x-forwarded-method', 'GET, POST'] as const, uri], 'not a method'],
    [[method, ['x-forwarded-uri', 'http://shop.test/a'] as const], 'must be a path'],
    [[method, ['x-forwarded-uri', 'a'] as const], 'must be a path'],
    [[method, ['x-forwarded-uri', '*'] as const], 'must be a path'],
    [[method, ['x-original-url', 'ftp://shop.test/a'] as const], 'X-Original-URL'],
    [[method, ['x-original-url', 'http://shop.test'] as const], 'X-Original-URL'],
    [[method, uri, ['x-forwarded-host', 'shop.test, evil.test'] as const], 'valid host'],
    [[method, ['x-original-url', 'http://user@shop.test/a'] as const], 'valid host'],
    [[method, uri, ['x-forwarded-proto', 'HTTPS'] as const], 'http or https'],
    [[method, uri, ['x-forwarded-proto', 'https,http'] as const], 'http or https'],
    [[method, uri, ['x-forwarded-proto', 'wss'] as const], 'http or https'],
    [[method, uri, ['x-forwarded-for', '10.0.0.1, unknown'] as const], 'address'],
    [[method, uri, ['x-forwarded-for', '10.0.0.1,'] as const], 'address'],
    [[method, ['x-forwarded-uri', '/a\x80'] as const], 'visible ASCII'],
    [[method, ['x-forwarded-uri', '/a\u007f'] as const], 'visible ASCII'],
  ])('is not guessed: %j', (fields, reason) => {
    expect(read(fields).fault).toContain(reason);
  });

  test('is on the request line where the proxy asks so, and its headers may not say otherwise', () => {
    expect(read([], ['POST', '/a?b']).original).toMatchObject({ method: 'POST', target: '/a?b' });
    expect(read([['x-forwarded-uri', '/a?b']], ['POST', '/a?b']).fault).toBe('');
    expect(read([['x-forwarded-uri', '/status']], ['POST', '/a?b']).fault).toContain('contradict');
    expect(read([['x-original-method', 'GET']], ['POST', '/a?b']).fault).toContain('contradict');
    expect(read([], ['GET', '']).fault).toContain('the path');
  });

  test('is told by these fields only: all others are handed on untouched, in their order', () => {
    const { others } = read([
      ['authorization', 'Bearer x'],
      method,
      ['x-acme-token', 't'],
      uri,
      ['x_forwarded_uri', '/z'],
    ]);
    expect(others).toEqual(['authorization: Bearer x', 'x-acme-token: t', 'x_forwarded_uri: /z']);
  });

  test('does not depend on the order of the fields', () => {
    const names = [
      'x-forwarded-method',
      'x-original-method',
      'x-forwarded-uri',
      'x-original-uri',
      'x-original-url',
      'x-forwarded-host',
      'x-original-host',
      'x-forwarded-proto',
      'x-original-proto',
    ];
    const value = fc.constantFrom('GET', 'PUT', '/a', '/b', 'http://h/a', 'https://h/a', 'h', 'g', 'http', 'https', '');
    const fields = fc.array(fc.tuple(fc.constantFrom(...names), value), { maxLength: 8 });
    fc.assert(
      fc.property(fields, fc.infiniteStream(fc.nat()), (list, random) => {
        const shuffled = list.toSorted(() => (random.next().value % 3) - 1);
        const one = read(list);
        const other = read(shuffled);
        expect(other.fault === '').toBe(one.fault === '');
        if (one.fault === '') expect(other.original).toEqual(one.original);
      }),
    );
  });
});
