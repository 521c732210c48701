import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TicketQueue } from '../../../src/admission/ticket-queue.js';
import { ticketOf } from '../../lua/admit-rig.js';

interface Waiting {
  readonly name: string;
  readonly sinceMs: number;
}

const steps = fc.array(
  fc.oneof(
    fc.record({ push: fc.integer({ min: 0, max: 20 }) }),
    fc.constant('shift' as const),
    fc.record({ takeUntil: fc.integer({ min: 0, max: 20 }) }),
  ),
  { maxLength: 60 },
);

test('whatever comes and goes, order and bound are those of a list', () => {
  fc.assert(
    fc.property(steps, (taken) => {
      const max = 5;
      const queue = new TicketQueue(max);
      const model: Waiting[] = [];
      for (const [index, step] of taken.entries()) {
        if (step === 'shift') {
          if (model.length === 0) continue;
          expect(queue.firstSinceMs).toBe(model[0]?.sinceMs);
          expect(queue.shift().tokenKey).toBe(model.shift()?.name);
        } else if ('push' in step) {
          if (queue.isFull) continue;
          const name = `ticket ${index}`;
          queue.push(ticketOf({ tokenKey: name }), step.push);
          model.push({ name, sinceMs: step.push });
        } else {
          const late: string[] = [];
          const nextMs = queue.takeWaitingSince(step.takeUntil, ({ tokenKey }) => late.push(tokenKey));
          const isLate = ({ sinceMs }: Waiting): boolean => sinceMs <= step.takeUntil;
          expect(late).toEqual(model.filter(isLate).map(({ name }) => name));
          model.splice(0, model.length, ...model.filter((waiting) => !isLate(waiting)));
          expect(nextMs).toBe(Math.min(...model.map(({ sinceMs }) => sinceMs)));
        }
        expect([queue.length, queue.isFull]).toEqual([model.length, model.length === max]);
      }
    }),
  );
});
