/**
 * How many cores this process may use. Node knows the affinity of the process (a cpuset) and not the CPU quota of its
 * control group, by which containers are limited: on a machine of 64 cores a container of 2 would start 64 workers.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';

/** Reads a file; undefined when it cannot be read. */
export type FileReader = (path: string) => string | undefined;

const mountedAt = '/sys/fs/cgroup';

/** At least 1. A quota of 1.5 cores counts as 2. */
export function usableCores(cores = availableParallelism(), read: FileReader = readText): number {
  return Math.max(1, Math.min(cores, Math.ceil(quotaCores(read) ?? cores)));
}

/** The smallest quota of the process' control groups, in cores; undefined where there is none. */
function quotaCores(read: FileReader): number | undefined {
  const quotas: number[] = [];
  // A line each: hierarchy-ID:controllers:path (cgroups(7)); inside a container the path may be one of outside.
  for (const line of (read('/proc/self/cgroup') ?? '').split('\n')) {
    const [, controllers = '', ...path] = line.split(':');
    const isUnified = controllers === '' && path.length > 0;
    if (!isUnified && !controllers.split(',').includes('cpu')) continue;
    const root = isUnified ? mountedAt : join(mountedAt, controllers);
    for (const folder of upwards(path.join(':'))) {
      const quota = isUnified ? unifiedQuota(read, join(root, folder)) : legacyQuota(read, join(root, folder));
      if (quota !== undefined) quotas.push(quota);
    }
  }
  return quotas.length === 0 ? undefined : Math.min(...quotas);
}

/** `/a/b`, `/a`, `/`: the quota of a parent holds too. */
function upwards(path: string): string[] {
  const folders = [path === '' ? '/' : path];
  for (let folder = path; folder !== '/' && folder !== '' && folder !== '.'; ) {
    folder = dirname(folder);
    folders.push(folder);
  }
  return folders;
}

/** cgroup v2: `max 100000` or `150000 100000`. */
function unifiedQuota(read: FileReader, folder: string): number | undefined {
  const [quota = '', period = ''] = (read(join(folder, 'cpu.max')) ?? '').trim().split(' ');
  return cores(quota, period);
}

/** cgroup v1: -1 is no quota. */
function legacyQuota(read: FileReader, folder: string): number | undefined {
  return cores(read(join(folder, 'cpu.cfs_quota_us')) ?? '', read(join(folder, 'cpu.cfs_period_us')) ?? '');
}

function cores(quotaUs: string, periodUs: string): number | undefined {
  const share = Number.parseInt(quotaUs, 10) / Number.parseInt(periodUs, 10);
  return share > 0 && share < Number.POSITIVE_INFINITY ? share : undefined;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
