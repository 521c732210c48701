import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  dayExpiresAt,
  dayName,
  dayOf,
  isTokenUse,
  milliseconds,
  rfc3339,
  visibleText,
} from '../../../src/accesslog/entry.js';
import { sampleEntry } from '../../support/log-entry.js';

describe('text from strangers', () => {
  test('nothing that a terminal or browser obeys gets through, and what is left is valid UTF-8', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), fc.integer({ min: 1, max: 50 }), (text, max) => {
        const shown = visibleText(text, max);
        expect(shown.length).toBeLessThanOrEqual(max);
        expect(shown).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
        expect(Buffer.from(shown, 'utf8').toString('utf8')).toBe(shown);
      }),
    );
  });

  test('visible text within the bound is kept as it is, whatever its script', () => {
    for (const text of ['', '/api/v1/products?q=a b', 'Grüße 世界 😀']) expect(visibleText(text, 64)).toBe(text);
  });

  test('a cut never falls inside a character', () => {
    expect(visibleText('ab😀', 3)).toBe('ab');
    expect(visibleText('ab😀', 4)).toBe('ab😀');
  });

  test.each([
    ['an escape sequence', '\u001b[31mred', '\uFFFD[31mred'],
    ['a line break', 'a\r\nb', 'a\uFFFD\uFFFDb'],
    ['an override of the writing direction', 'a\u202Eb', 'a\uFFFDb'],
    ['a lone surrogate', 'a\ud800b', 'a\uFFFDb'],
  ])('%s is replaced', (_, text, shown) => {
    expect(visibleText(text, 64)).toBe(shown);
  });
});

test('a time is written as RFC 3339 in UTC, for every millisecond and in any order', () => {
  const times = fc.integer({ min: 0, max: Date.UTC(9999, 11, 31) });
  fc.assert(
    fc.property(times, fc.nat(2500), (timeMs, later) => {
      expect(rfc3339(timeMs)).toBe(new Date(timeMs).toISOString());
      expect(rfc3339(timeMs + later)).toBe(new Date(timeMs + later).toISOString());
      expect(rfc3339(timeMs + 0.75)).toBe(new Date(timeMs).toISOString());
    }),
  );
});

test('a duration is written with at most three decimals and reads back as its rounded value', () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1e9, noNaN: true }), (duration) => {
      const text = milliseconds(duration);
      expect(text).toMatch(/^\d+(\.\d{3})?$/);
      expect(Number(text)).toBeCloseTo(Math.round(duration * 1000) / 1000, 6);
    }),
  );
  for (const senseless of [-1, Number.NaN, Number.POSITIVE_INFINITY]) expect(milliseconds(senseless)).toBe('0');
});

test('a day is kept in full for the days of retention after its end', () => {
  const lastMoment = Date.UTC(2026, 1, 28, 23, 59, 59, 999);
  const day = dayOf(lastMoment);
  expect(dayName(day)).toBe('2026-02-28');
  expect(dayName(dayOf(lastMoment + 1))).toBe('2026-03-01');
  expect(dayExpiresAt(day, 30) * 1000).toBe(Date.UTC(2026, 2, 31));
});

test('who has not proved to hold a token does not count as its use', () => {
  expect(isTokenUse(sampleEntry())).toBe(true);
  expect(isTokenUse(sampleEntry({ status: 429, outcome: 'rate-limit-exceeded' }))).toBe(true);
  expect(isTokenUse(sampleEntry({ status: 401, outcome: 'invalid-token' }))).toBe(false);
  expect(isTokenUse(sampleEntry({ tokenId: '' }))).toBe(false);
  // 401 in the words of the upstream.
  expect(isTokenUse(sampleEntry({ status: 401, outcome: 'ok' }))).toBe(true);
});
