import * as fc from 'fast-check';
import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { OperatorError } from '../../../src/core/failure.js';
import { shardOf } from '../../../src/redis/keys.js';
import {
  drawPlaintext,
  hashPlaintext,
  isTokenId,
  issueToken,
  parseToken,
  requireTokenPrefix,
} from '../../../src/token/format.js';

const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const prefixes = fc.constantFrom('tk_live', 'sk_live', 'opt_live', 'k', 'a1_b2_c3', 'x'.repeat(32));
const slugs = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/);

/** The checksum once more, by long division of a BigInt instead of character by character. */
function checksumByHand(body: string): string {
  let rest = BigInt(crc32(Buffer.from(body, 'utf8')));
  const digits: string[] = [];
  for (let i = 0; i < 6; i++) {
    digits.unshift(alphabet[Number(rest % 62n)] as string);
    rest /= 62n;
  }
  return digits.join('');
}

describe('issueToken', () => {
  it('writes prefix, id, secret and checksum in their places', () => {
    const { id, plaintext } = issueToken('tk_live', 'acme');
    expect(plaintext).toMatch(/^tk_live_[0-9A-Za-z]{12}_[0-9A-Za-z]{38}$/);
    expect(plaintext.slice(8, 20)).toBe(id);
    expect(plaintext.slice(-6)).toBe(checksumByHand(plaintext.slice(0, -6)));
  });

  it("draws an id in its tenant's shard, for any tenant and prefix", () => {
    fc.assert(
      fc.property(prefixes, slugs, (prefix, slug) => {
        const { id, plaintext } = issueToken(prefix, slug);
        expect(shardOf(id)).toBe(shardOf(slug));
        expect(parseToken(plaintext, prefix)).toEqual({ id });
      }),
    );
  });

  it('gives the secret at least 190 bits: 32 characters, each of the 62 equally likely', () => {
    expect(32 * Math.log2(alphabet.length)).toBeGreaterThan(190);
    const counts = new Map<string, number>();
    const samples = 4000;
    for (let i = 0; i < samples; i++) {
      for (const character of drawPlaintext('k', 'a1B2c3D4e5F6').slice(15, 47)) {
        counts.set(character, (counts.get(character) ?? 0) + 1);
      }
    }
    expect([...counts.keys()].sort().join('')).toBe(alphabet.split('').sort().join(''));
    // Chi-squared with 61 degrees of freedom: above 140 once in 10^7 runs; a modulo bias (bytes mod 62) gives > 600.
    const expected = (samples * 32) / 62;
    const chiSquared = [...counts.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    expect(chiSquared).toBeLessThan(140);
  });

  it('never draws the same secret twice', () => {
    const drawn = new Set(Array.from({ length: 1000 }, () => drawPlaintext('tk_live', 'a1B2c3D4e5F6')));
    expect(drawn.size).toBe(1000);
  });
});

describe('parseToken', () => {
  const { id, plaintext } = issueToken('tk_live', 'acme');

  it('refuses every change of a single character', () => {
    fc.assert(
      fc.property(
        fc.nat(plaintext.length - 1),
        fc.string({ minLength: 1, maxLength: 1, unit: 'binary' }),
        (at, other) => {
          fc.pre(other !== plaintext[at]);
          expect(parseToken(plaintext.slice(0, at) + other + plaintext.slice(at + 1), 'tk_live')).toBeNull();
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('refuses two characters that changed places', () => {
    for (let at = 8; at < plaintext.length - 1; at++) {
      const swapped = plaintext.slice(0, at) + plaintext[at + 1] + plaintext[at] + plaintext.slice(at + 2);
      if (swapped !== plaintext) expect(parseToken(swapped, 'tk_live')).toBeNull();
    }
  });

  it('refuses a token cut short, lengthened or padded', () => {
    for (let length = 0; length < plaintext.length; length++) {
      expect(parseToken(plaintext.slice(0, length), 'tk_live')).toBeNull();
    }
    for (const text of [`${plaintext}0`, ` ${plaintext}`, `${plaintext} `, `${plaintext}\n`, `${plaintext}\0`]) {
      expect(parseToken(text, 'tk_live')).toBeNull();
    }
  });

  it('refuses any other text without throwing', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 80 }), (text) => {
        expect(parseToken(text, 'tk_live')).toBeNull();
      }),
    );
  });

  it('refuses a token of another prefix, also of the same length', () => {
    expect(parseToken(plaintext, 'sk_live')).toBeNull();
    expect(parseToken(plaintext, 'tk')).toBeNull();
    expect(parseToken(issueToken('sk_live', 'acme').plaintext, 'tk_live')).toBeNull();
  });

  it('refuses characters outside base62 even under a right checksum', () => {
    for (const odd of ['-', '_', ' ', '\u00e9', '\u0661', '\ud800']) {
      const body = `tk_live_${id}_${odd}${plaintext.slice(22, -6)}`;
      expect(parseToken(body + checksumByHand(body), 'tk_live')).toBeNull();
    }
    const body = `tk_live_${id.slice(1)}__${plaintext.slice(21, -6)}`;
    expect(parseToken(body + checksumByHand(body), 'tk_live')).toBeNull();
  });

  it('still reads a token that was issued by an earlier release', () => {
    // A fixed one: a change of alphabet, length or checksum would lock out every client.
    const body = 'tk_live_a1B2c3D4e5F6_0123456789ABCDEFGHIJKLMNOPQRSTUV';
    expect(parseToken(`${body}${checksumByHand(body)}`, 'tk_live')).toEqual({ id: 'a1B2c3D4e5F6' });
    expect(checksumByHand(body)).toBe('229iCf');
  });
});

describe('isTokenId', () => {
  it('takes 12 base62 characters and nothing that could reach into another key', () => {
    expect(isTokenId('a1B2c3D4e5F6')).toBe(true);
    for (const text of ['', 'a1B2c3D4e5F', 'a1B2c3D4e5F67', 'a1B2c3D4e5F:', 'a1B2c3}4{5F6', 'a1B2c3D4e5F\u0661']) {
      expect(isTokenId(text)).toBe(false);
    }
  });
});

describe('hashPlaintext', () => {
  it('is the SHA-256 in lower-case hex', () => {
    expect(hashPlaintext('abc')).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  });
});

describe('requireTokenPrefix', () => {
  it.each(['tk_live', 'sk', 'a1_b2', 'x'.repeat(32)])('takes %s', (prefix) => {
    expect(requireTokenPrefix(prefix)).toBe(prefix);
  });

  it.each(['', '_tk', 'tk_', 'tk__live', 'TK', '1tk', 'tk-live', 'tk live', 'x'.repeat(33), 'tk\n'])(
    'refuses %j and names the setting',
    (prefix) => {
      expect(() => requireTokenPrefix(prefix)).toThrow(OperatorError);
      expect(() => requireTokenPrefix(prefix)).toThrow(/TOLLKEEPER_TOKEN_PREFIX/);
    },
  );
});
