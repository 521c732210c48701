/**
 * Runs a TypeScript expression in a network namespace of its own, where the kernel hands connections that wait for a
 * closing listener to others on its port (net.ipv4.tcp_migrate_req). Only root may make one.
 */
import { execFile, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';

/** Whether this process may make one, and the kernel knows the setting. */
export function canMigrateRequests(): boolean {
  const probe = 'ip link set lo up && echo 1 > /proc/sys/net/ipv4/tcp_migrate_req';
  return spawnSync('unshare', ['--net', 'sh', '-c', probe]).status === 0;
}

/** The value of `expression`, by JSON, with everything that `module` exports in scope as `the`. */
export async function inMigratingNamespace<T>(module: URL, expression: string): Promise<T> {
  const script = `import * as the from ${JSON.stringify(module.href)};process.stdout.write('\\n'+JSON.stringify(await ${expression}));`;
  const inNamespace =
    'ip link set lo up && echo 1 > /proc/sys/net/ipv4/tcp_migrate_req && exec "$0" --import tsx --input-type=module -e "$1"';
  const { stdout } = await promisify(execFile)('unshare', ['--net', 'sh', '-c', inNamespace, process.execPath, script]);
  return JSON.parse(stdout.slice(stdout.lastIndexOf('\n') + 1)) as T;
}
