/** How full the heap of this process is: V8 ends a process that fills it. */
import { getHeapSpaceStatistics, getHeapStatistics } from 'node:v8';

/** What V8 counts into its limit for young objects: three semi-spaces of 16 MiB, where nobody chose another size. */
const youngBytesMax = 3 * 16 * 2 ** 20;

/**
 * Old objects as a share of the room they may fill (`--max-old-space-size`). Dead ones count until they are collected;
 * V8 collects them before they fill half of what the living ones leave free, so that 0.85 means 0.7 of living ones.
 * Measured with a heap of 96 MiB: it gives up at about 0.85 to 0.9 of living ones.
 */
export function heapUse(): number {
  const { used_heap_size: used, heap_size_limit: limit } = getHeapStatistics();
  const young = getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space')?.space_used_size ?? 0;
  return (used - young) / Math.max(limit - youngBytesMax, youngBytesMax / 3);
}
