import { createHash, createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isNonce, isSignatureHex, parseTimestamp, signatureMatches } from '../../../src/credential/hmac.js';
import { type RequestToSign, signRequest } from '../../../src/sign/sign.js';

const secret = 'tk_test_Vector000001_NotASecretOnlyForTestVectors00013x9fYD';
const base: RequestToSign = { secret, method: 'GET', url: '/api/v1/products' };

/** Whether the verifier accepts what the signer made, given what would arrive. */
function verifies(
  headers: Readonly<Record<string, string>>,
  method: string,
  target: string,
  body: string | Uint8Array,
): boolean {
  return signatureMatches(
    secret,
    method,
    target,
    headers['X-Tollkeeper-Timestamp'] as string,
    headers['X-Tollkeeper-Nonce'] ?? '',
    createHash('sha256').update(body).digest('hex'),
    headers['X-Tollkeeper-Signature'] as string,
  );
}

describe('signRequest', () => {
  test('makes signatures that the verifier accepts, for any request', () => {
    const methods = fc.constantFrom('GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE');
    const targets = fc.webPath().map((path) => (path.startsWith('/') ? path : `/${path}`));
    const bodies = fc.oneof(fc.string({ unit: 'grapheme' }), fc.uint8Array());
    const nonces = fc.option(fc.stringMatching(/^[!-~]{0,64}$/), { nil: undefined });
    fc.assert(
      fc.property(methods, targets, bodies, nonces, fc.nat(9_999_999_999), (method, url, body, nonce, timestamp) => {
        const { headers } = signRequest({
          secret,
          method,
          url,
          body,
          timestamp,
          ...(nonce === undefined ? {} : { nonce }),
        });
        expect(verifies(headers, method, url, body)).toBe(true);
        expect(parseTimestamp(headers['X-Tollkeeper-Timestamp'] as string)).toBe(timestamp);
        expect(isSignatureHex(headers['X-Tollkeeper-Signature'] as string)).toBe(true);
        const sent = headers['X-Tollkeeper-Nonce'];
        expect(nonce === '' ? sent === undefined : isNonce(sent as string)).toBe(true);
      }),
    );
  });

  test('signs an absolute URL as fetch sends it', () => {
    const sent: [string | URL, string][] = [
      ['http://store.example.com', '/'],
      ['https://store.example.com/a/b?c=d#fragment', '/a/b?c=d'],
      ['http://127.0.0.1:8080/café?q=Панда 1', '/caf%C3%A9?q=%D0%9F%D0%B0%D0%BD%D0%B4%D0%B0%201'],
      ['http://127.0.0.1:8080/a/../b', '/b'],
      [new URL('http://127.0.0.1/a?b=%2F'), '/a?b=%2F'],
    ];
    for (const [url, target] of sent) {
      expect(signRequest({ ...base, url }).canonicalString.split('\n')[1]).toBe(target);
    }
  });

  test('signs a target byte for byte', () => {
    for (const url of ['/', '/a/../b', '/%7e?', '/?a=1&a=2', '/%c3%a9', '//double']) {
      expect(signRequest({ ...base, url }).canonicalString.split('\n')[1]).toBe(url);
    }
  });

  test('takes the current second and a nonce of at least 128 bits that never repeats', () => {
    const before = Math.floor(Date.now() / 1000);
    const signed = Array.from({ length: 500 }, () => signRequest(base).headers);
    const after = Math.floor(Date.now() / 1000);
    for (const headers of signed) {
      expect(Number(headers['X-Tollkeeper-Timestamp'])).toBeGreaterThanOrEqual(before);
      expect(Number(headers['X-Tollkeeper-Timestamp'])).toBeLessThanOrEqual(after);
      expect(headers['X-Tollkeeper-Nonce']).toMatch(/^[\w-]{22}$/);
    }
    expect(new Set(signed.map((headers) => headers['X-Tollkeeper-Nonce'])).size).toBe(500);
    expect(new Set(signed.map((headers) => headers['X-Tollkeeper-Signature'])).size).toBe(500);
  });

  test('finds the id in the secret, under any prefix, and takes the configured header prefix', () => {
    const long = 'panda_store_api_live_Vector000003_NotASecretOnlyForTestVectors00031IUfEH';
    const { headers } = signRequest({ ...base, secret: long, headerPrefix: 'X-Pandabase-', nonce: 'n', timestamp: 1 });
    expect(headers).toEqual({
      'X-Pandabase-Token': 'Vector000003',
      'X-Pandabase-Timestamp': '1',
      'X-Pandabase-Nonce': 'n',
      'X-Pandabase-Signature': createHmac('sha256', long)
        .update(`GET\n/api/v1/products\n1\nn\n${createHash('sha256').digest('hex')}`)
        .digest('hex'),
    });
  });

  test('declares the digest of the body when asked to', () => {
    const { headers } = signRequest({ ...base, method: 'POST', body: 'x', declareBody: true });
    expect(headers['X-Tollkeeper-Content-SHA256']).toBe(createHash('sha256').update('x').digest('hex'));
    expect(signRequest({ ...base, method: 'POST', body: 'x' }).headers).not.toHaveProperty(
      'X-Tollkeeper-Content-SHA256',
    );
  });

  test.each<[string, Partial<RequestToSign>]>([
    ['a method in lower case', { method: 'get' }],
    ['an empty method', { method: '' }],
    ['a method with a line feed', { method: 'GET\n' }],
    ['a target with a space', { url: '/a b' }],
    ['a target with a line feed', { url: '/a\n1' }],
    ['a target with a fragment', { url: '/a#b' }],
    ['a target that is not encoded', { url: '/café' }],
    ['an empty target', { url: '' }],
    ['a target without a slash', { url: 'api/v1' }],
    ['another scheme', { url: 'ftp://store.example.com/a' }],
    ['a nonce with a space', { nonce: 'a b' }],
    ['a nonce with a line feed at its end', { nonce: 'a\n' }],
    ['a nonce that is too long', { nonce: 'n'.repeat(65) }],
    ['a timestamp in fractions', { timestamp: 1.5 }],
    ['a negative timestamp', { timestamp: -1 }],
    ['a timestamp that is no number', { timestamp: Number.NaN }],
    ['a timestamp of 13 digits', { timestamp: 1_767_225_600_000 }],
    ['a header prefix that is no header name', { headerPrefix: 'X Tollkeeper:' }],
    ['a secret without its id', { secret: secret.slice(21) }],
    ['a shortened secret', { secret: secret.slice(0, -1) }],
    ['a secret with a line feed at its end', { secret: `${secret}\n` }],
    ['an empty secret', { secret: '' }],
    ['the secret in place of the URL', { url: secret }],
  ])('refuses %s with a TypeError that shows no secret', (_, part) => {
    let thrown: unknown;
    try {
      signRequest({ ...base, ...part });
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(TypeError);
    expect(String((thrown as Error).stack)).not.toContain('NotASecret');
    expect((thrown as Error).cause).toBeUndefined();
  });
});

test('the module imports nothing but node:crypto, so that it can be copied and bundled', () => {
  const source = readFileSync(new URL('../../../src/sign/sign.ts', import.meta.url), 'utf8');
  expect([...source.matchAll(/(?:from|import|require\()\s*'([^']+)'/g)].map((match) => match[1])).toEqual([
    'node:crypto',
  ]);
});
