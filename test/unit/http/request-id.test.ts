import * as fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { newRequestId, saneRequestId } from '../../../src/http/request-id.js';

describe('saneRequestId', () => {
  it.each([
    'a',
    '550e8400-e29b-41d4-a716-446655440000',
    '01ARZ3NDEKTSV4RRFFQ69G5FAV',
    'Root=1-5759:x/y+z==',
    'a'.repeat(128),
  ])('takes %s', (id) => expect(saneRequestId(id)).toBe(true));

  it.each([
    '',
    'a b',
    '<script>',
    'a%0d%0a',
    'a\r\nX: y',
    '"',
    "'",
    'a,b',
    'a;b',
    'a&b',
    '{}',
    '\\',
    'é',
    '\0',
    'a'.repeat(129),
  ])('refuses %j', (id) => expect(saneRequestId(id)).toBe(false));

  it('passes nothing that means something in HTML, headers or log lines', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (id) => {
        if (saneRequestId(id)) expect(id).toMatch(/^[\w.~:+/=-]{1,128}$/);
      }),
    );
  });
});

describe('newRequestId', () => {
  it('is unique, rising, 26 characters and itself a sane id', () => {
    const ids = Array.from({ length: 5000 }, newRequestId);
    expect(new Set(ids).size).toBe(5000);
    expect([...ids].sort()).toEqual(ids);
    for (const id of ids) expect(id).toMatch(/^[0-9a-hjkmnp-tv-z]{26}$/);
    expect(saneRequestId(ids[0] as string)).toBe(true);
  });

  it('differs between processes', async () => {
    vi.resetModules();
    const other = await import('../../../src/http/request-id.js');
    expect(other.newRequestId().slice(0, 16)).not.toBe(newRequestId().slice(0, 16));
  });
});
