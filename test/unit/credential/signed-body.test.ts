import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BodyCollector } from '../../../src/credential/signed-body.js';

/** Memory of its own, as the binding hands it over. */
function chunkOf(bytes: Uint8Array): ArrayBuffer {
  const chunk = new ArrayBuffer(bytes.length);
  new Uint8Array(chunk).set(bytes);
  return chunk;
}

const chunks = fc.array(fc.uint8Array({ maxLength: 400 }), { maxLength: 12 });

describe('BodyCollector', () => {
  test('has the bytes and the digest of the whole body, however it is cut', () => {
    fc.assert(
      fc.property(chunks, (parts) => {
        const collector = new BodyCollector(10_000);
        const whole = Buffer.concat(parts);
        for (const part of parts) expect(collector.push(chunkOf(part))).toBe(true);
        expect(collector.bytes).toBe(whole.length);
        expect(collector.digestHex()).toBe(createHash('sha256').update(whole).digest('hex'));
        expect(collector.digestHex()).toBe(createHash('sha256').update(whole).digest('hex'));
        expect(collector.body()).toEqual(whole);
        expect(collector.tooLarge).toBe(false);
      }),
    );
  });

  test('copies each chunk: memory that is used again afterwards changes nothing', () => {
    fc.assert(
      fc.property(chunks, (parts) => {
        const collector = new BodyCollector(10_000);
        for (const part of parts) {
          const chunk = chunkOf(part);
          collector.push(chunk);
          new Uint8Array(chunk).fill(0xaa);
        }
        expect(collector.digestHex()).toBe(createHash('sha256').update(Buffer.concat(parts)).digest('hex'));
        expect(collector.body()).toEqual(Buffer.concat(parts));
      }),
    );
  });

  test('takes a body of exactly the limit, and of one byte more nothing', () => {
    fc.assert(
      fc.property(chunks, fc.uint8Array({ minLength: 1, maxLength: 3 }), (parts, extra) => {
        const limit = Buffer.concat(parts).length;
        const collector = new BodyCollector(limit);
        for (const part of parts) expect(collector.push(chunkOf(part))).toBe(true);
        expect(collector.tooLarge).toBe(false);
        expect(collector.push(chunkOf(extra))).toBe(false);
        expect(collector.tooLarge).toBe(true);
        expect(collector.push(chunkOf(extra))).toBe(false);
        expect(collector.bytes).toBe(0);
        expect(collector.body()).toHaveLength(0);
        expect(() => collector.digestHex()).toThrow('too large');
      }),
    );
  });

  test('keeps at most twice a body that comes byte by byte', () => {
    const collector = new BodyCollector(1_048_576);
    const byte = chunkOf(Uint8Array.of(7));
    for (let i = 0; i < 100_000; i++) collector.push(byte);
    expect(collector.body()).toHaveLength(100_000);
    expect(collector.body().buffer.byteLength).toBeLessThanOrEqual(2 * 100_000 + 16_384);
  });

  test('never allocates more than the limit', () => {
    const collector = new BodyCollector(100_000);
    for (let i = 0; i < 10; i++) collector.push(new ArrayBuffer(10_000));
    expect(collector.body().buffer.byteLength).toBe(100_000);
  });

  test('refuses a chunk after its digest was taken', () => {
    const collector = new BodyCollector(10);
    collector.digestHex();
    expect(() => collector.push(new ArrayBuffer(1))).toThrow('after the digest');
  });
});
