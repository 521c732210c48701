import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { BodyBudget } from '../../../src/dataplane/body-budget.js';
import type { HttpResponse } from '../../../src/dataplane/binding.js';
import { RequestBody } from '../../../src/dataplane/request-body.js';

const kib = 1024;
const response = { pause: () => {}, resume: () => {} } as unknown as HttpResponse;

/** A body of 10 MiB that is on its way: `unsentBytes` stands for what the connection to the upstream holds of it. */
function uploading(budget: BodyBudget) {
  const body = new RequestBody(response, 10 * 1024 * kib, 0, budget, 0);
  const call = { unsentBytes: 0, abort: () => {}, resume: () => {} };
  const stream = body.toUpstream() as Readable;
  body.follow(call);
  const more = (bytes: number): string | undefined => body.chunk(new ArrayBuffer(bytes), false, 0)?.problem.slug;
  return { body, call, stream, more };
}

describe('the memory of bodies counts', () => {
  test('what waits in the stream to the upstream, and in its connection, until it has been taken', async () => {
    const budget = new BodyBudget(1024 * kib);
    const { body, call, stream, more } = uploading(budget);
    more(100 * kib);
    expect(budget.heldBytes).toBe(100 * kib);
    call.unsentBytes = 30 * kib;
    expect(budget.heldBytes).toBe(130 * kib);
    stream.on('data', () => {});
    await turn();
    expect(budget.heldBytes).toBe(30 * kib);
    // Passed on at once: nothing of it is held.
    more(100 * kib);
    expect(budget.heldBytes).toBe(30 * kib);
    body.release();
    expect(budget.heldBytes).toBe(0);
  });

  test('a block for what came to a client that waits, however little of it is used', () => {
    const budget = new BodyBudget(1024 * kib);
    const { body, more } = uploading(budget);
    more(256 * kib);
    expect(body.paused).toBe(true);
    more(64 * kib);
    expect(budget.heldBytes).toBe((256 + 512) * kib);
    body.release();
    expect(budget.heldBytes).toBe(0);
  });

  test('so that the upload that exceeds it is refused, and nothing of it stays', () => {
    const budget = new BodyBudget(1024 * kib);
    const uploads = Array.from({ length: 6 }, () => uploading(budget));
    expect(uploads.map(({ more }) => more(200 * kib))).toEqual([...Array(5).fill(undefined), 'overloaded']);
    expect([budget.heldBytes, budget.isExceeded]).toEqual([1000 * kib, false]);
    expect(uploads.map(({ stream }) => stream.destroyed)).toEqual([...Array(5).fill(false), true]);
  });

  test('and none is refused for what an upstream has taken by now, without a further piece of it', async () => {
    const budget = new BodyBudget(1024 * kib);
    const [first, second] = [uploading(budget), uploading(budget)];
    expect(first.more(1000 * kib)).toBeUndefined();
    first.stream.on('data', () => {});
    await turn();
    expect(second.more(1000 * kib)).toBeUndefined();
    expect(budget.heldBytes).toBe(1000 * kib);
  });
});
