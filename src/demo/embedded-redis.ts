/**
 * The demo's own redis-server: one process on a unix socket in the demo's folder, append-only file, nothing evicted.
 *
 * It runs in a process group of its own, so that Ctrl-C reaches the demo first, which writes its last log entries and
 * then ends it. A server that a killed demo left behind is found by its socket and ended before a new one starts.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, rmSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { Redis } from 'ioredis';
import { OperatorError } from '../core/failure.js';
import { makeFolder } from './folder.js';

export interface EmbeddedRedis {
  /** For the configuration: `unix://…`. */
  readonly url: string;
  readonly socketPath: string;
  /** Holds the append-only file. */
  readonly dataDirectory: string;
  /** Ends the server; what it holds is on disk then. */
  stop(): Promise<void>;
}

/** Longest path of a unix socket on Linux and macOS, bytes. */
const socketPathBytesMax = 103;
const stopTimeoutMs = 5000;

/**
 * Starts the server on the data in `directory` and answers when it takes commands.
 * @throws OperatorError when no server program is there, it does not start, or another demo uses the directory.
 */
export async function startEmbeddedRedis(directory: string): Promise<EmbeddedRedis> {
  const program = findServerProgram();
  const socketPath = join(directory, 'redis.sock');
  if (Buffer.byteLength(socketPath) > socketPathBytesMax) {
    throw new OperatorError(
      `The path ${socketPath} is too long for a unix socket: choose a shorter folder with --dir, such as /tmp/tollkeeper.`,
    );
  }
  const dataDirectory = join(directory, 'redis');
  makeFolder(dataDirectory);
  await endLeftover(socketPath);

  const settings = {
    dir: dataDirectory,
    unixsocket: socketPath,
    unixsocketperm: '700',
    port: '0',
    daemonize: 'no',
    save: '',
    appendonly: 'yes',
    appendfsync: 'everysec',
    'maxmemory-policy': 'noeviction',
    'lazyfree-lazy-expire': 'yes',
  };
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
  const child = spawn(program, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  // The last resort for a demo that ends by an uncaught error.
  const killWithUs = (): void => void child.kill('SIGKILL');
  process.once('exit', killWithUs);
  child.once('exit', () => process.off('exit', killWithUs));
  await accepting(child);
  return {
    url: `unix://${encodeURI(socketPath)}`,
    socketPath,
    dataDirectory,
    stop: () => endServer(child),
  };
}

/**
 * The first redis-server or valkey-server on PATH.
 * @throws OperatorError that says how to install one.
 */
function findServerProgram(): string {
  for (const name of ['redis-server', 'valkey-server']) {
    for (const folder of (process.env.PATH ?? '').split(delimiter)) {
      const path = join(folder, name);
      try {
        accessSync(path, constants.X_OK);
        return path;
      } catch {
        // Not here: look in the next folder.
      }
    }
  }
  throw new OperatorError(
    'The demo needs redis-server or valkey-server: install one (Debian, Ubuntu: apt-get install redis-server; macOS: brew install redis).',
  );
}

/** Ends the server of a demo that was killed. Which demo may end it is for the caller's lock to say. */
async function endLeftover(socketPath: string): Promise<void> {
  const redis = new Redis({ path: socketPath, lazyConnect: true, retryStrategy: () => null, connectTimeout: 1000 });
  redis.on('error', () => {}); // connect() rejects with it
  try {
    await redis.connect();
  } catch {
    redis.disconnect();
    rmSync(socketPath, { force: true });
    return;
  }
  const ended = once(redis, 'end');
  await redis.shutdown().catch(() => {}); // it answers by closing
  await ended;
}

/** Resolves when the server says that it accepts connections. */
function accepting(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let output = '';
    const read = (chunk: Buffer): void => {
      if (output.length < 10_000) output += chunk.toString();
      if (output.includes('eady to accept connections')) resolve();
    };
    const fail = (reason: string): void => reject(new OperatorError(`redis-server did not start: ${reason}`));
    child.stdout?.on('data', read);
    child.stderr?.on('data', read);
    child.once('error', (error) => fail(error.message));
    child.once('exit', () => fail(lastLine(output)));
  });
}

async function endServer(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs);
  await exited;
  clearTimeout(timer);
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? '';
}
