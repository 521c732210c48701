import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hasTwoSpellings, meaningOf, normalisePath, queryAllowed } from '../../../src/policy/path.js';

/** Texts made of what paths are attacked with, so that most runs reach the interesting branches. */
const hostilePath = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        '/',
        '.',
        '..',
        '%',
        '%2e',
        '%2E',
        '%2f',
        '%5C',
        '%25',
        '%252e',
        '%3b',
        '%00',
        '%7B',
        '%c3%a9',
        '%C0%AE',
      ),
      fc.constantFrom(
        'a',
        'A',
        '2',
        'f',
        'e',
        '~',
        ':',
        '@',
        '!',
        ';',
        '\\',
        '#',
        '?',
        ' ',
        '"',
        '|',
        '[',
        '^',
        'é',
        '%3A',
      ),
      fc.integer({ min: 0, max: 255 }).map((byte) => `%${byte.toString(16).padStart(2, '0')}`),
      fc.string({ maxLength: 3 }),
    ),
    { maxLength: 12 },
  )
  .map((parts) => `/${parts.join('')}`);

/** What no segment may decode to: separators and ASCII control characters. */
const asciiHazard = /[/\\;?#]|(?![\x80-\x9f])\p{Cc}/u;

/** Any text, written as `encodeURIComponent` writes it: what well-behaved clients send. */
const honestSegment = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
  .filter((text) => text !== '.' && text !== '..' && !/[\p{Cc}/\\;?#%]/u.test(text) && text.isWellFormed())
  .map((text) => encodeURIComponent(text));

describe('normalisePath', () => {
  it.each([
    '/',
    '/a',
    '/api/v1/products',
    '/a/b.json',
    '/...',
    '/.a',
    '/a..',
    "/!$&'()*+,=:@",
    '/%7Bid%7D',
    '/a%20b',
    '/caf%C3%A9',
  ])('leaves %s as it is', (path) => expect(normalisePath(path)).toBe(path));

  it.each([
    ['/api/v1/%70roducts', '/api/v1/products'],
    ['/%41%7a%30%2d%2E%5f%7eb', '/Az0-._~b'],
    ['/caf%c3%a9', '/caf%C3%A9'],
    ['/%7bid%7d', '/%7Bid%7D'],
    ['/%f0%9f%92%a9/%e2%82%ac', '/%F0%9F%92%A9/%E2%82%AC'],
    ['/100%25', '/100%25'],
    ['/100%25%20x', '/100%25%20x'],
    ['/a%3ab%40', '/a%3Ab%40'],
    ['/%2e%2e%2e', '/...'],
  ])('gives %s the one form %s', (raw, normal) => expect(normalisePath(raw)).toBe(normal));

  it.each([
    ['not beginning with a slash', ['', 'api', '@evil.test/a', 'http://h/a', '*', '?', '%2Fa']],
    [
      'dot segments in any encoding',
      ['/.', '/..', '/a/.', '/a/..', '/a/../b', '/./a', '/%2e', '/%2E%2e/a', '/a/.%2e', '/%2e./'],
    ],
    ['empty segments', ['//', '//a', '/a//b', '/a/', '/%41/', '/a//']],
    ['encoded separators', ['/a%2fb', '/a%2Fb', '/a%5cb', '/a%3bb', '/a%3Fb', '/a%23b', '/..%2f']],
    ['raw separators', ['/a\\b', '/a;b', '/a#b', '/a?b', '/..;/a']],
    ['control characters', ['/a%00', '/%0d%0a', '/%09', '/%1f', '/%7f', '/a\0', '/a\x7f', '/a\tb']],
    ['bytes no path may hold', ['/a b', '/"', '/<a>', '/^', '/`', '/{id}', '/a|b', '/[a]', '/é', '/\ufffd', '/\u0661']],
    ['broken escapes', ['/%', '/%4', '/%zz', '/%4g', '/%u0041', '/%%41', '/%é1', '/a%']],
    ['double encoding', ['/%2561', '/%252e', '/%25%32e', '/%25%32%66', '/%252%66', '/a%25aF']],
    ['overlong UTF-8', ['/%c0%ae', '/%c1%bf', '/%e0%80%af', '/%e0%9f%bf', '/%f0%80%80%af', '/%f0%8f%bf%bf']],
    [
      'invalid UTF-8',
      [
        '/%80',
        '/%ff',
        '/%c3',
        '/%c3a',
        '/%c3%41',
        '/%e2%82',
        '/%ed%a0%80',
        '/%f4%90%80%80',
        '/%f5%80%80%80',
        '/%c3/%a9',
      ],
    ],
  ])('refuses %s', (_, paths) => {
    for (const path of paths) expect([path, normalisePath(path)]).toEqual([path, '']);
  });

  it('answers its own normal form for whatever passes', () => {
    fc.assert(
      fc.property(hostilePath, (raw) => {
        const path = normalisePath(raw);
        if (path !== '') expect(normalisePath(path)).toBe(path);
      }),
      { numRuns: 5000 },
    );
  });

  it('passes nothing that a URL parser would read as another path', () => {
    fc.assert(
      fc.property(hostilePath, (raw) => {
        const path = normalisePath(raw);
        if (path === '') return;
        const url = new URL(path, 'http://h');
        expect([url.host, url.pathname, url.search, url.hash]).toEqual(['h', path, '', '']);
      }),
      { numRuns: 5000 },
    );
  });

  it('passes nothing that decodes, once or twice, to a separator, a dot segment or a control character', () => {
    fc.assert(
      fc.property(hostilePath, (raw) => {
        const path = normalisePath(raw);
        if (path === '' || path === '/') return;
        expect(path).toMatch(/^[\x21-\x7e]+$/);
        for (const segment of path.slice(1).split('/')) {
          const once = decodeURIComponent(segment);
          const twice = once.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) =>
            String.fromCharCode(Number.parseInt(hex, 16)),
          );
          for (const text of [segment, once, twice]) {
            expect(text).not.toMatch(/^\.{0,2}$/);
            expect(text).not.toMatch(asciiHazard);
          }
        }
      }),
      { numRuns: 5000 },
    );
  });

  it('changes no meaning: whatever passes decodes to what the client wrote', () => {
    fc.assert(
      fc.property(hostilePath, (raw) => {
        const path = normalisePath(raw);
        if (path !== '') expect(decodeURIComponent(path)).toBe(decodeURIComponent(raw));
      }),
      { numRuns: 3000 },
    );
  });

  it('passes every text that a well-behaved client encodes', () => {
    fc.assert(
      fc.property(fc.array(honestSegment, { minLength: 1, maxLength: 4 }), (segments) => {
        const path = `/${segments.join('/')}`;
        expect(normalisePath(path)).toBe(path);
        expect(normalisePath(path.toLowerCase())).not.toBe('');
      }),
      { numRuns: 2000 },
    );
  });

  it('answers the same whether or not an escape stands elsewhere in the path', () => {
    fc.assert(
      fc.property(hostilePath, (raw) => {
        const alone = normalisePath(raw);
        const beside = normalisePath(`/%41${raw}`);
        expect(beside).toBe(alone === '' || alone === '/' ? '' : `/A${alone}`);
      }),
      { numRuns: 3000 },
    );
  });
});

describe('queryAllowed', () => {
  it.each(['', 'a=1', '/../admin', 'a=%zz&b=%', '?', 'q=\'"<>{}|\\^`', 'a=%00'])('passes %s on', (query) => {
    expect(queryAllowed(query)).toBe(true);
  });

  it.each(['a#b', 'a b', 'a\tb', 'a\r\nHost: x', 'a\0', 'a\x7f', 'café', '\ufffd'])('refuses %j', (query) => {
    expect(queryAllowed(query)).toBe(false);
  });
});

describe('meaningOf', () => {
  it('is one spelling for segments that a decoding backend cannot tell apart', () => {
    expect(meaningOf('a%3Ab%20%2B')).toBe('a:b%20+');
    expect(meaningOf('a:b%20+')).toBe('a:b%20+');
    expect(meaningOf('%C3%A9%25')).toBe('%C3%A9%25');
  });

  it('says which literals can be spelled in two ways', () => {
    expect(['a:b', 'a%3Ab', 'v1.2'].map(hasTwoSpellings)).toEqual([true, true, false]);
  });
});
