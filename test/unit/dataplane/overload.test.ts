import { expect, test } from 'vitest';
import { BodyBudget } from '../../../src/dataplane/body-budget.js';
import { heapUse } from '../../../src/dataplane/heap-use.js';
import { Overload } from '../../../src/dataplane/overload.js';

test('one late turn sheds nothing; from the second in a row on new requests are refused until one is on time', () => {
  const overload = new Overload(100, 200, new BodyBudget(1000));
  let nowMs = performance.now();
  const turn = (lateMs: number): boolean => {
    nowMs += 50 + lateMs;
    overload.sample(nowMs);
    return overload.sheds(1);
  };
  overload.sample(nowMs);
  expect([turn(0), turn(900), turn(100), turn(900), turn(250)]).toEqual([false, false, false, false, true]);
  expect(overload.reasons(1)).toHaveLength(1);
  expect([turn(300), turn(10)]).toEqual([true, false]);
  expect(overload.reasons(1)).toEqual([]);
  overload.stop();
});

test('beyond the requests that may be under way the next is refused, and readiness says so', () => {
  const overload = new Overload(100, 0, new BodyBudget(1000));
  expect([overload.sheds(100), overload.sheds(101)]).toEqual([false, true]);
  expect([overload.reasons(99).length, overload.reasons(100).length]).toEqual([0, 1]);
});

test('bodies that fill their memory are told, until they are gone', () => {
  const budget = new BodyBudget(1000);
  const overload = new Overload(100, 0, budget);
  budget.change(1001);
  expect(overload.reasons(1)).toHaveLength(1);
  budget.change(-1);
  expect(overload.reasons(1)).toEqual([]);
});

test('a heap that is nearly full sheds until there is room; before that it is short', () => {
  let use = 0.84;
  const overload = new Overload(100, 0, new BodyBudget(1000), () => use);
  const sampled = (share: number): [boolean, number, boolean] => {
    use = share;
    overload.sample(performance.now());
    return [overload.sheds(1), overload.reasons(1).length, overload.heapIsShort];
  };
  expect([sampled(0.69), sampled(0.84), sampled(0.86), sampled(0.5)]).toEqual([
    [false, 0, false],
    [false, 0, true],
    [true, 1, true],
    [false, 0, false],
  ]);
  overload.stop();
});

test('the heap of this process has room', () => {
  expect(heapUse()).toBeGreaterThan(0);
  expect(heapUse()).toBeLessThan(0.5);
});
