/**
 * How fast the machine is at this moment. On shared hardware the same work can take twice the CPU time when a
 * neighbour is busy, and no counter of the guest shows it: a fixed piece of work is timed around every run.
 */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { machineCpuUs } from './proc.js';

const lookMs = 400;
/** Part of a core that other work may use, and how much slower than its best the machine may be, to be called calm. */
const othersMax = 0.1;
const slowdownMax = 1.15;

/** The least CPU time of the fixed work that any session on this machine has seen, microseconds. */
const referenceFile = join(tmpdir(), 'tollkeeper-bench-reference');

const hashed = Buffer.alloc(64 * 1024, 'tollkeeper');

export class Calm {
  #bestUs = readReference();

  /** CPU time of the fixed work now, by the least that was seen: 1 is full speed. */
  slowdown(): number {
    const before = process.cpuUsage();
    for (let round = 0; round < 400; round++) createHash('sha256').update(hashed).digest();
    let mixed = 1;
    for (let round = 0; round < 20_000_000; round++) mixed = Math.imul(mixed, 31) + round;
    const { user, system } = process.cpuUsage(before);
    // `mixed` is used, so that the loop is not optimised away.
    const us = user + system + (mixed === 0.5 ? 1 : 0);
    if (us < this.#bestUs) {
      this.#bestUs = us;
      writeFileSync(referenceFile, String(us));
    }
    return us / this.#bestUs;
  }

  /** Waits until the machine does nothing else and runs at full speed, at most `deadlineMs`. */
  async wait(deadlineMs: number): Promise<void> {
    const until = performance.now() + deadlineMs;
    for (;;) {
      const [cpu, at] = [machineCpuUs(), performance.now()];
      await delay(lookMs);
      const others = (machineCpuUs() - cpu) / ((performance.now() - at) * 1000);
      const isCalm = others < othersMax && this.slowdown() < slowdownMax;
      if (isCalm || performance.now() >= until) return;
    }
  }
}

function readReference(): number {
  try {
    return Number(readFileSync(referenceFile, 'utf8')) || Number.POSITIVE_INFINITY;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
