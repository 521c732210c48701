/** How much one process holds and does at once. */
import { integer } from './key.js';

export const capacity = {
  admissionQueueMax: integer(
    'Capacity',
    10_000,
    [1, 1_000_000],
    'Requests waiting for Redis, per worker; more get 503 `overloaded`.',
  ),
  requestsInFlightMax: integer(
    'Capacity',
    20_000,
    [1, 1_000_000],
    'Requests under way at once, per worker; more get 503 `overloaded`.',
  ),
  bodyMemoryMax: integer(
    'Capacity',
    268_435_456,
    [1_048_576, 68_719_476_736],
    'Bytes of request bodies held in memory at once, per worker: signed ones whose digest is not known yet (which may take up to twice as much while they grow), and uploads that come faster than the upstream takes them, wherever they wait, up to the buffers of the kernel. A body beyond gets 503 `overloaded`.',
  ),
  eventLoopLagMaxMs: integer(
    'Capacity',
    1000,
    [0, 60_000],
    'Ms by which the event loop may lag twice in a row before new requests get 503 `overloaded`; 0 sets no limit.',
  ),
  recordCacheMax: integer('Capacity', 50_000, [1, 10_000_000], 'Decoded token records held in memory, per worker.'),
};
