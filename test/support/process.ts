/** Child processes of the tests: found on PATH, tied to the life of the test process, ended by pid. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { once } from 'node:events';

/** Absolute path of the first of `names` that is on PATH (or in sbin, where Debian keeps servers), else undefined. */
export function findExecutable(...names: readonly string[]): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin'];
  for (const name of names) {
    for (const folder of folders) {
      const path = join(folder, name);
      try {
        accessSync(path, constants.X_OK);
        return path;
      } catch {
        // not here: the next folder
      }
    }
  }
  return undefined;
}

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

// Where util-linux is there, the kernel itself ends the child when the test process dies, even by SIGKILL.
const setpriv = process.platform === 'linux' ? findExecutable('setpriv') : undefined;

/** Starts a child that cannot outlive this process. `child.pid` is the program's own. */
export function spawnTied(file: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
  const child =
    setpriv === undefined
      ? spawn(file, args, options)
      : spawn(setpriv, ['--pdeathsig', 'KILL', '--', file, ...args], options);
  running.add(child);
  child.once('exit', () => running.delete(child));
  child.once('error', () => running.delete(child));
  return child;
}

export function hasExited(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** Sends the signal and waits for the exit; SIGKILL follows when the child has not gone after `graceMs`. */
export async function endProcess(child: ChildProcess, signal: NodeJS.Signals, graceMs = 15_000): Promise<void> {
  if (hasExited(child) || child.pid === undefined) return;
  const exited = once(child, 'exit');
  child.kill(signal);
  // A stopped process takes no signal but these two.
  child.kill('SIGCONT');
  const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
  await exited;
  clearTimeout(timer);
}
