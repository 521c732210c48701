/** Memory of a process as the kernel sees it (Linux). */
import { readFileSync } from 'node:fs';

/** Resident memory in bytes. */
export function residentBytes(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kib) * 1024;
}

/** Resident memory in bytes that is of no file: the heap, buffers, and all that native code has of the system. */
export function anonymousBytes(pid: number): number {
  const kib = /^Anonymous:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1];
  return Number(kib) * 1024;
}

/** Watches the resident memory of a process; `stop` answers the highest value seen, in bytes. */
export function watchMemory(pid: number): { stop(): number } {
  let highest = residentBytes(pid);
  const timer = setInterval(() => {
    highest = Math.max(highest, residentBytes(pid));
  }, 20);
  timer.unref();
  return {
    stop() {
      clearInterval(timer);
      return Math.max(highest, residentBytes(pid));
    },
  };
}
