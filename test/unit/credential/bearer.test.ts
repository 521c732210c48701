import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { digestMatches, sha256 } from '../../../src/credential/bearer.js';

test('sha256 is the SHA-256 of the UTF-8 bytes', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      expect(sha256(text)).toEqual(createHash('sha256').update(text, 'utf8').digest());
    }),
  );
});

test('a digest matches itself and nothing that differs in a bit', () => {
  fc.assert(
    fc.property(fc.string(), fc.nat(255), (text, bit) => {
      const digest = sha256(text);
      const other = Buffer.from(digest);
      other[bit >> 3] = (other[bit >> 3] as number) ^ (1 << (bit & 7));
      expect(digestMatches(sha256(text), digest)).toBe(true);
      expect(digestMatches(digest, other)).toBe(false);
    }),
  );
});

test('a digest of another length matches nothing, not even itself, and never throws', () => {
  const digest = sha256('x');
  for (const other of [Buffer.alloc(0), digest.subarray(0, 31), Buffer.concat([digest, Buffer.alloc(1)])]) {
    expect(digestMatches(digest, other)).toBe(false);
    expect(digestMatches(other, digest)).toBe(false);
    expect(digestMatches(other, other)).toBe(false);
  }
});
