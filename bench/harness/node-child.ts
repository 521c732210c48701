/** Starts a Node program that announces its listeners as Tollkeeper does: JSON lines `{"msg":"listening", …}`. */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { childEnvironment } from '../../test/support/cli.js';
import { endProcess, hasExited, spawnTied } from '../../test/support/process.js';
import { pinned } from './cores.js';

export interface NodeChild {
  readonly pid: number;
  /** Origin of a listener by its plane, `http://host:port`. */
  origin(plane: string): string;
  /** SIGTERM and its end; answers the exit code, -1 when a signal ended it. */
  stop(): Promise<number>;
  /** Everything it printed, for the report of a failure. */
  output(): string;
}

export interface NodeChildOptions {
  readonly core: number;
  readonly env?: Readonly<Record<string, string>>;
  /** Planes to wait for. */
  readonly planes: readonly string[];
}

const startTimeoutMs = 20_000;
const outputKept = 20_000;

/** Starts `node <args>` on a core and answers when it listens; rejects with its output when it does not. */
export async function startNode(args: readonly string[], options: NodeChildOptions): Promise<NodeChild> {
  const [file, fileArgs] = pinned(process.execPath, args, options.core);
  const child = spawnTied(file, fileArgs, {
    env: childEnvironment(options.env ?? {}),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const addresses = new Map<string, string>();
  await new Promise<void>((resolve, reject) => {
    const fail = (what: string): void => reject(new Error(`${args.join(' ')} ${what}:\n${output}`));
    const timer = setTimeout(() => fail(`did not listen within ${startTimeoutMs} ms`), startTimeoutMs);
    const read = (line: string): void => {
      output = `${output}${line}\n`.slice(-outputKept);
      const [plane, address] = listeningOf(line);
      if (plane !== '') addresses.set(plane, address);
      if (options.planes.every((name) => addresses.has(name))) {
        clearTimeout(timer);
        resolve();
      }
    };
    linesOf(child, read);
    child.once('error', reject);
    child.once('close', () => {
      clearTimeout(timer);
      fail(`ended (${child.exitCode ?? child.signalCode})`);
    });
  }).catch(async (error: unknown) => {
    if (!hasExited(child)) await endProcess(child, 'SIGKILL');
    throw error;
  });
  return {
    pid: child.pid as number,
    origin: (plane) => `http://${addresses.get(plane)}`,
    async stop() {
      await endProcess(child, 'SIGTERM');
      return child.exitCode ?? -1;
    },
    output: () => output,
  };
}

/** A program of the benchmark itself, in TypeScript. */
export function scriptArgs(url: URL, ...args: readonly string[]): string[] {
  return ['--import', 'tsx', url.pathname, ...args];
}

function linesOf(child: ChildProcess, read: (line: string) => void): void {
  for (const stream of [child.stdout, child.stderr]) {
    if (stream !== null) createInterface({ input: stream }).on('line', read);
  }
}

/** Plane and address when the line announces a listener, else ''. */
function listeningOf(line: string): [plane: string, address: string] {
  if (!line.includes('"listening"')) return ['', ''];
  try {
    const { plane, address } = JSON.parse(line) as { plane?: unknown; address?: unknown };
    return [String(plane), String(address)];
  } catch {
    return ['', ''];
  }
}
