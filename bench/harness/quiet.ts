/** Waits for the machine to have nothing else to do: other work changes CPU per request, not only throughput. */
import { setTimeout as delay } from 'node:timers/promises';
import { machineCpuUs } from './proc.js';

const lookMs = 500;

/**
 * Answers when all processes together used less than `coresMax` of a core for half a second, or `deadlineMs` have
 * passed; the answer is what was used last.
 */
export async function waitForQuiet(coresMax: number, deadlineMs: number): Promise<number> {
  const until = performance.now() + deadlineMs;
  for (;;) {
    const [cpu, at] = [machineCpuUs(), performance.now()];
    await delay(lookMs);
    const used = (machineCpuUs() - cpu) / ((performance.now() - at) * 1000);
    if (used < coresMax || performance.now() >= until) return used;
  }
}
