import { expect, test } from 'vitest';
import { RequestState } from '../../../src/dataplane/request-state.js';
import type { RequestHead } from '../../../src/http/request-head.js';

test('a request that is decided again asks for no lease that its first decision asked for', () => {
  const request = new RequestState({} as RequestHead, 0);
  request.leasable = true;
  request.lease = { units: 50, datedMs: 0, marks: Buffer.alloc(16) };
  request.undecide();
  expect([request.leasable, request.lease]).toEqual([false, null]);
});
