/** What the processes of a sidecar take of memory, for figures.ts. */
import { readFileSync } from 'node:fs';
import { startInstallation } from '../support/installation.js';
import { burst, clientPool } from '../support/load.js';
import { residentBytes } from '../support/memory.js';
import { workerPids } from '../support/workers.js';

const requests = 20_000;

/** MiB of one process: resident, and with shared pages divided among those that share them (Pss). */
function memoryOf(pid: number): { resident: number; proportional: number } {
  const kib = /^Pss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1];
  return { resident: Math.round(residentBytes(pid) / 2 ** 20), proportional: Math.round(Number(kib) / 1024) };
}

/** One process, then a primary with two workers and with four: idle, and after requests over 64 connections. */
export async function memory(): Promise<object> {
  const seen: object[] = [];
  for (const workers of [1, 2, 4]) {
    const installation = await startInstallation();
    try {
      await installation.tenant('acme');
      const token = await installation.token('acme', '--limit', '1000000');
      const sidecar = await installation.sidecar({ env: { TOLLKEEPER_WORKERS: String(workers) } });
      const measure = (): object => ({ first: memoryOf(sidecar.pid), workers: workerPids(sidecar).map(memoryOf) });
      const idle = measure();
      const pool = clientPool(sidecar.dataUrl, 64);
      for (let sent = 0; sent < requests; sent += 500) await burst([pool], 500, '/api/v1/products', token.secret);
      seen.push({ workers, 'MiB idle': idle, [`MiB after ${requests} requests`]: measure() });
      await pool.close();
    } finally {
      await installation.stop();
    }
  }
  return { seen };
}
