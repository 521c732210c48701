/**
 * How near this process is to its limit of open files. Asked without opening one: a process that has none left must
 * still be able to say so.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';

const folder = '/proc/self/fd';

/** Open descriptors as a share of the limit, 0 to 1; undefined where the system does not tell (no Linux). */
export function descriptorUse(): (() => number) | undefined {
  const limit = openFilesMax();
  return limit === undefined ? undefined : () => openDescriptors(limit) / limit;
}

/** Linux counts them in the size of the folder from 6.2 on; older ones have them listed. */
function openDescriptors(limit: number): number {
  try {
    const { size } = statSync(folder);
    // The listing takes one for itself.
    return size > 0 ? size : readdirSync(folder).length - 1;
  } catch {
    return limit;
  }
}

/** The soft limit; read once, since nothing changes it in a running process as a rule. */
function openFilesMax(): number | undefined {
  try {
    const soft = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
    return soft === undefined ? undefined : Number(soft);
  } catch {
    return undefined;
  }
}
