import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isValidHost, tenantOfHost } from '../../../src/http/host.js';

describe('isValidHost', () => {
  it.each([
    'example.com',
    'EXAMPLE.com:8080',
    'example.com.',
    'my_service:3000',
    'localhost',
    '127.0.0.1:65535',
    'xn--caf-dma.example',
    '[::1]',
    '[2001:db8::1]:443',
    '[::ffff:10.0.0.1]:0',
    'a:1',
  ])('takes %s', (host) => expect(isValidHost(host)).toBe(true));

  it.each([
    '',
    ' ',
    ':80',
    'example.com:',
    'example.com:abc',
    'example.com:80:80',
    'example.com:65536',
    'example.com:000080',
    'example.com:-1',
    'example.com:80@169.254.169.254',
    'user@example.com',
    'user:pw@example.com',
    'exa mple.com',
    'example.com ',
    'example.com, other.com',
    'example.com/path',
    'example.com?x',
    'example.com#x',
    'example.com\\x',
    '.',
    '.example.com',
    'a..b',
    'exa%6dple.com',
    'ex\u00e4mple.com',
    'example.com\0',
    '::1',
    '[::1',
    '[::1]x',
    '[::1]:',
    '[fe80::1%eth0]',
    '[127.0.0.1]',
    '[]',
    'a'.repeat(256),
  ])('refuses %j', (host) => expect(isValidHost(host)).toBe(false));

  it('passes only what a URL parser takes for the same host, without user, path or query', () => {
    const character = fc.constantFrom(
      'a',
      'B',
      '1',
      '-',
      '.',
      ':',
      '@',
      '[',
      ']',
      '/',
      '?',
      '#',
      '%',
      '_',
      ' ',
      '\\',
      '0',
      '::1',
    );
    fc.assert(
      fc.property(fc.array(character, { maxLength: 10 }), (characters) => {
        const host = characters.join('');
        if (!isValidHost(host) || !URL.canParse(`http://${host}/p`)) return;
        const url = new URL(`http://${host}/p`);
        expect([url.username, url.password, url.pathname, url.search, url.hash]).toEqual(['', '', '/p', '', '']);
      }),
      { numRuns: 5000 },
    );
  });
});

describe('tenantOfHost', () => {
  it.each([
    ['acme.example.com', 'acme'],
    ['ACME.Example.COM:8443', 'acme'],
    ['acme.example.com.', 'acme'],
    ['acme.example.com.:80', 'acme'],
    ['example.com', ''],
    ['.example.com', ''],
    ['a.b.example.com', ''],
    ['acmeexample.com', ''],
    ['acme.example.com.evil.test', ''],
    ['acme.example.org', ''],
    ['acme', ''],
    ['127.0.0.1', ''],
    ['[::1]:80', ''],
    ['', ''],
  ])('of %s is "%s"', (host, tenant) => expect(tenantOfHost(host, '*.example.com')).toBe(tenant));

  it('takes exactly one label in place of the star', () => {
    fc.assert(
      fc.property(fc.domain(), fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,20}$/), (domain, label) => {
        expect(tenantOfHost(`${label}.${domain}`, `*.${domain}`)).toBe(label);
        expect(tenantOfHost(domain, `*.${domain}`)).toBe('');
        expect(tenantOfHost(`x.${label}.${domain}`, `*.${domain}`)).toBe('');
      }),
    );
  });
});
