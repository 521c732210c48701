import { createHash, createHmac } from 'node:crypto';
import { inspect } from 'node:util';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  canonicalString,
  claimOf,
  claimUntilMs,
  emptyBodySha256,
  hmacHeaderNames,
  hmacKey,
  isNonce,
  isSignatureHex,
  isTokenId,
  notAfterMs,
  notBeforeMs,
  parseTimestamp,
  signatureMatches,
} from '../../../src/credential/hmac.js';

interface Signed {
  readonly method: string;
  readonly target: string;
  readonly timestamp: string;
  readonly nonce: string;
  readonly body: Uint8Array;
  readonly secret: string;
}

const visible = fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code));
const digit = fc.constantFrom(...'0123456789'.split(''));
const base62 = fc.constantFrom(...'0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'.split(''));
const textOf = (unit: fc.Arbitrary<string>, minLength: number, maxLength: number) =>
  fc.string({ unit, minLength, maxLength });

const requests: fc.Arbitrary<Signed> = fc.record({
  method: fc.constantFrom('GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'),
  target: textOf(visible, 0, 60).map((rest) => `/${rest}`),
  timestamp: textOf(digit, 1, 12),
  nonce: textOf(visible, 0, 64),
  body: fc.uint8Array({ maxLength: 100 }),
  secret: textOf(base62, 50, 50).map((rest) => `tk_live_${rest.slice(0, 12)}_${rest.slice(12)}`),
});

const sha256Hex = (body: Uint8Array): string => createHash('sha256').update(body).digest('hex');

/** The definition in docs/hmac.md, written the plain way. */
function signatureOf({ method, target, timestamp, nonce, body, secret }: Signed): string {
  const lines = nonce === '' ? [method, target, timestamp] : [method, target, timestamp, nonce];
  return createHmac('sha256', secret)
    .update([...lines, sha256Hex(body)].join('\n'))
    .digest('hex');
}

function accepts({ method, target, timestamp, nonce, body, secret }: Signed, signature: string): boolean {
  return signatureMatches(secret, method, target, timestamp, nonce, sha256Hex(body), signature);
}

/** Another text of the same alphabet: one character exchanged, added or left out. */
function changed(text: string, at: number, how: number, unit: string): string {
  const place = text.length === 0 ? 0 : at % text.length;
  if (how === 0 || text.length === 0) return text.slice(0, place) + unit + text.slice(place);
  if (how === 1) return text.slice(0, place) + text.slice(place + 1);
  return text.slice(0, place) + (text[place] === unit ? (unit === '0' ? '1' : '0') : unit) + text.slice(place + 1);
}

describe('signatureMatches', () => {
  test('accepts the signature of exactly this request, whatever form the secret has', () => {
    fc.assert(
      fc.property(requests, (request) => {
        const { method, target, timestamp, nonce, body, secret } = request;
        for (const key of [secret, Buffer.from(secret), hmacKey(secret)]) {
          const digest = sha256Hex(body);
          expect(signatureMatches(key, method, target, timestamp, nonce, digest, signatureOf(request))).toBe(true);
        }
      }),
    );
  });

  test('refuses when any single part of the request differs in a single character or byte', () => {
    const parts = fc.constantFrom('method', 'target', 'timestamp', 'nonce', 'body', 'secret');
    fc.assert(
      fc.property(requests, parts, fc.nat(200), fc.nat(2), visible, digit, (request, part, at, how, unit, aDigit) => {
        const signature = signatureOf(request);
        let other: Signed;
        if (part === 'body') {
          const bytes = Buffer.from(changed(Buffer.from(request.body).toString('latin1'), at, how, unit), 'latin1');
          other = { ...request, body: bytes };
        } else {
          other = { ...request, [part]: changed(request[part], at, how, part === 'timestamp' ? aDigit : unit) };
        }
        // A character that is left out of a run of equal ones changes too: every edit makes another text.
        expect(accepts(request, signature)).toBe(true);
        expect(accepts(other, signature)).toBe(false);
      }),
      { numRuns: 1000 },
    );
  });

  test('refuses when two parts trade characters across their border', () => {
    fc.assert(
      fc.property(requests, (request) => {
        const moved = { ...request, method: request.method + request.target[0], target: request.target.slice(1) };
        expect(accepts(moved, signatureOf(request))).toBe(false);
      }),
    );
  });

  test('refuses the signature of a request without nonce for one with, and the reverse', () => {
    fc.assert(
      fc.property(requests, textOf(visible, 1, 64), (request, nonce) => {
        const without = { ...request, nonce: '' };
        const having = { ...request, nonce };
        expect(accepts(having, signatureOf(without))).toBe(false);
        expect(accepts(without, signatureOf(having))).toBe(false);
      }),
    );
  });

  test('refuses truncated, lengthened, upper-case and non-hex signatures without an exception', () => {
    fc.assert(
      fc.property(requests, fc.nat(63), fc.string({ unit: 'binary', maxLength: 80 }), (request, at, noise) => {
        const signature = signatureOf(request);
        const spoiled = [
          signature.slice(0, at),
          signature + signature.slice(0, at + 1),
          `${signature}\n`,
          ` ${signature}`,
          `0x${signature.slice(2)}`,
          signature.slice(0, 62) + 'zz',
          signature.slice(0, at) + '\u0130' + signature.slice(at + 1),
          Buffer.from(signature, 'hex').toString('base64'),
          noise,
          '',
          ...(signature.toUpperCase() === signature ? [] : [signature.toUpperCase()]),
        ];
        for (const text of spoiled) expect(accepts(request, text)).toBe(false);
      }),
    );
  });

  test('never throws for a secret or parts of any content', () => {
    const any = fc.string({ unit: 'binary' });
    fc.assert(
      fc.property(any, any, any, any, any, any, (secret, method, target, timestamp, nonce, digest) => {
        expect(signatureMatches(secret, method, target, timestamp, nonce, digest, '0'.repeat(64))).toBe(false);
      }),
    );
  });
});

describe('canonicalString', () => {
  test('has one line a part, the nonce only when there is one, and no line feed at the end', () => {
    expect(canonicalString('GET', '/a?b=c', '1767225600', '', emptyBodySha256)).toBe(
      `GET\n/a?b=c\n1767225600\n${emptyBodySha256}`,
    );
    expect(canonicalString('GET', '/a?b=c', '1767225600', 'n', emptyBodySha256)).toBe(
      `GET\n/a?b=c\n1767225600\nn\n${emptyBodySha256}`,
    );
  });

  test('differs for requests that differ', () => {
    fc.assert(
      fc.property(requests, requests, (one, other) => {
        const text = (signed: Signed) =>
          canonicalString(signed.method, signed.target, signed.timestamp, signed.nonce, sha256Hex(signed.body));
        const same = (['method', 'target', 'timestamp', 'nonce'] as const).every((part) => one[part] === other[part]);
        expect(text(one) === text(other)).toBe(same && Buffer.compare(one.body, other.body) === 0);
      }),
    );
  });

  test('takes the digest of the empty string for an empty body', () => {
    expect(emptyBodySha256).toBe(sha256Hex(new Uint8Array()));
  });
});

describe('header values', () => {
  test('a timestamp is 1 to 12 decimal digits', () => {
    fc.assert(fc.property(textOf(digit, 1, 12), (text) => parseTimestamp(text) === Number(text)));
    const refused = ['', '1767225600.5', '-1', '+1', '1e9', '0x6000', 'NaN', 'Infinity', ' 1', '1 ', '1\n', '1_000'];
    for (const text of [...refused, '1234567890123', '9'.repeat(400), '2026-01-01T00:00:00Z', '١٢٣', '１']) {
      expect(parseTimestamp(text), text).toBe(-1);
    }
  });

  test('a timestamp of any other text is refused', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 14 }), (text) => {
        expect(parseTimestamp(text)).toBe(/^[0-9]{1,12}$/.test(text) && !text.endsWith('\n') ? Number(text) : -1);
      }),
    );
  });

  test('a signature is exactly 64 lower-case hex digits', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...'0123456789abcdefAFg/:`@{ '.split('')), maxLength: 66 }),
        (text) => {
          expect(isSignatureHex(text)).toBe(text.length === 64 && /^[0-9a-f]+$/.test(text));
        },
      ),
    );
    expect(isSignatureHex('0123456789abcdef'.repeat(4))).toBe(true);
    for (const stranger of ['/', ':', '`', 'g', 'A', 'F', '\u0100', '\0', ' ']) {
      expect(isSignatureHex('0'.repeat(63) + stranger)).toBe(false);
      expect(isSignatureHex(stranger + '0'.repeat(63))).toBe(false);
    }
  });

  test('a nonce is 1 to 64 visible ASCII characters', () => {
    fc.assert(fc.property(textOf(visible, 1, 64), isNonce));
    for (const text of ['', 'x'.repeat(65), 'a b', 'a\n', '\t', '\x7f', 'é', '\u0000'])
      expect(isNonce(text)).toBe(false);
  });

  test('a token id is 12 base62 characters', () => {
    fc.assert(fc.property(textOf(base62, 12, 12), isTokenId));
    for (const text of [
      '',
      '0'.repeat(11),
      '0'.repeat(13),
      '00000000000*',
      '{00}00000000',
      '0000000000\r\n',
      'é00000000000',
    ]) {
      expect(isTokenId(text)).toBe(false);
    }
  });

  test('header names follow the configured prefix in lower case', () => {
    expect(hmacHeaderNames('X-Pandabase-')).toEqual({
      token: 'x-pandabase-token',
      timestamp: 'x-pandabase-timestamp',
      nonce: 'x-pandabase-nonce',
      signature: 'x-pandabase-signature',
      contentSha256: 'x-pandabase-content-sha256',
    });
  });
});

describe('the window', () => {
  test('reaches 300 seconds to either side, and a claim outlives it', () => {
    expect(notBeforeMs(1_767_225_600)).toBe(1_767_225_300_000);
    expect(notAfterMs(1_767_225_600)).toBe(1_767_225_900_000);
    expect(claimUntilMs(1_767_225_600)).toBe(1_767_225_901_000);
  });

  test('is exact for every timestamp that is accepted', () => {
    fc.assert(
      fc.property(textOf(digit, 1, 12), (text) => {
        const seconds = parseTimestamp(text);
        expect(Number.isSafeInteger(notAfterMs(seconds))).toBe(true);
        expect(notAfterMs(seconds) - notBeforeMs(seconds)).toBe(600_000);
        expect(claimUntilMs(seconds)).toBeGreaterThan(notAfterMs(seconds));
      }),
    );
  });
});

test('different signatures never share a claim, and a claim is 32 bytes', () => {
  fc.assert(
    fc.property(requests, requests, (one, other) => {
      const [first, second] = [signatureOf(one), signatureOf(other)];
      expect(claimOf(first) === claimOf(second)).toBe(first === second);
      expect(claimOf(first)).toMatch(/^[0-9a-f]{64}$/);
    }),
  );
});

test('a cached key shows its secret neither to inspection nor to JSON', () => {
  const secret = 'tk_test_Vector000001_NotASecretOnlyForTestVectors00013x9fYD';
  const shown = inspect({ key: hmacKey(secret) }, { depth: 5, showHidden: true }) + JSON.stringify(hmacKey(secret));
  expect(shown).not.toContain('NotASecret');
  expect(shown).not.toContain(Buffer.from(secret).toString('hex').slice(0, 16));
});
