import { expect, test } from 'vitest';
import { interruptible, ProgressLine } from '../../../src/cli/long-work.js';

test('the line says how much of the work is done, and goes away before anything else is printed', () => {
  const shown: string[] = [];
  const progress = new ProgressLine(
    { env: {}, out: () => {}, err: () => {}, status: (text) => shown.push(text) },
    'importing',
    2000,
    1000,
  );
  progress.show(500, 1500);
  // Too soon to be shown again.
  progress.show(501, 1599);
  progress.show(502, 1600);
  // Never too soon for the end; from the first second on the pace is told.
  progress.show(2000, 2000);
  progress.close();
  expect(shown).toEqual([
    'importing  [######------------------] 25%  500 of 2,000',
    'importing  [######------------------] 25%  502 of 2,000',
    'importing  [########################] 100%  2,000 of 2,000  2,000/s',
    '',
  ]);
});

test('without a terminal nothing is shown', () => {
  const progress = new ProgressLine({ env: {}, out: () => {}, err: () => {} }, 'exporting');
  expect(() => {
    progress.show(1);
    progress.close();
  }).not.toThrow();
});

test.each(['SIGINT', 'SIGTERM'] as const)(
  '%s asks the work to end, and is heard no more afterwards',
  async (signal) => {
    const before = process.listenerCount(signal);
    const aborted = await interruptible(async (asked) => {
      process.emit(signal);
      return asked.aborted;
    });
    expect(aborted).toBe(true);
    expect(process.listenerCount(signal)).toBe(before);
  },
);
