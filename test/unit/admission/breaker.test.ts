import { expect, test } from 'vitest';
import { Breaker } from '../../../src/redis/breaker.js';

test('it opens only after failures in a row', () => {
  const breaker = new Breaker({ failuresMax: 3 });
  breaker.failed(0);
  breaker.failed(0);
  breaker.succeeded();
  breaker.failed(0);
  breaker.failed(0);
  expect(breaker.state).toBe('closed');
  breaker.failed(0);
  expect(breaker.state).toBe('open');
  expect(breaker.allows(99)).toBe(false);
});

test('it opens when every second call fails, and not when every third does', () => {
  const failing = new Breaker({ failuresMax: 3 });
  for (let call = 0; call < 100 && failing.state === 'closed'; call += 1) {
    if (call % 2 === 0) failing.succeeded();
    else failing.failed(0);
  }
  expect(failing.state).toBe('open');
  const slow = new Breaker({ failuresMax: 3 });
  for (let call = 0; call < 1000; call += 1) {
    if (call % 3 === 0) slow.failed(0);
    else slow.succeeded();
  }
  expect(slow.state).toBe('closed');
});

test('half-open lets exactly one call try, and its success closes it', () => {
  const breaker = new Breaker({ failuresMax: 1 });
  breaker.failed(0);
  expect([breaker.allows(100), breaker.allows(100), breaker.allows(5000)]).toEqual([true, false, false]);
  expect(breaker.state).toBe('half-open');
  breaker.succeeded();
  expect([breaker.state, breaker.allows(101), breaker.allows(101)]).toEqual(['closed', true, true]);
});

test('the delay doubles up to half a second, so that a server that is back is found within one', () => {
  const breaker = new Breaker({ failuresMax: 1 });
  const delays: number[] = [];
  let now = 0;
  breaker.failed(now);
  for (let probe = 0; probe < 5; probe += 1) {
    const failedAt = now;
    while (!breaker.allows(now)) now += 1;
    delays.push(now - failedAt);
    breaker.failed(now);
  }
  expect(delays).toEqual([100, 200, 400, 500, 500]);
});

test('failures of calls from before it opened do not prolong it', () => {
  const breaker = new Breaker({ failuresMax: 1 });
  breaker.failed(0);
  breaker.failed(90);
  expect(breaker.allows(100)).toBe(true);
});

test('a connection that comes back may be tried at once', () => {
  const breaker = new Breaker({ failuresMax: 1 });
  breaker.failed(1000);
  expect(breaker.allows(1001)).toBe(false);
  breaker.reconnected();
  expect(breaker.allows(1001)).toBe(true);
});
