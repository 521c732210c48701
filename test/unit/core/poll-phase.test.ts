import { expect, test } from 'vitest';
import { inPollPhase } from '../../../src/core/poll-phase.js';

/** Where in the turns of the event loop each of these runs, when all are asked for in `from`. */
function orderFrom(from: (start: () => void) => void): Promise<string[]> {
  return new Promise((resolve) => {
    const order: string[] = [];
    from(() => {
      setImmediate(() => {
        order.push('check');
        resolve(order);
      });
      inPollPhase(() => order.push('first'));
      inPollPhase(() => order.push('second'));
      order.push('caller');
    });
  });
}

test('what is put off runs after its caller and before the check phase, wherever it was asked for', async () => {
  const expected = ['caller', 'first', 'second', 'check'];
  expect(await orderFrom((start) => setTimeout(start, 1))).toEqual(expected);
  expect(await orderFrom((start) => setImmediate(start))).toEqual(expected);
  expect(await orderFrom((start) => inPollPhase(start))).toEqual(expected);
});

test('a task that is asked for in a task runs in a later one', async () => {
  const order: string[] = [];
  await new Promise<void>((resolve) => {
    inPollPhase(() => {
      inPollPhase(() => {
        order.push('inner');
        resolve();
      });
      order.push('outer');
    });
    inPollPhase(() => order.push('beside'));
  });
  expect(order).toEqual(['outer', 'beside', 'inner']);
});
