/** A whole Tollkeeper as users run it: `node dist/main.js serve` on ports of its own, ready when it says so. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expectNoSecret } from './canary.js';
import { childEnvironment, mainScript } from './cli.js';
import { endProcess, hasExited, spawnTied } from './process.js';

export interface SidecarOptions {
  /** `TOLLKEEPER_…` variables; listeners default to free loopback ports. */
  readonly env: Readonly<Record<string, string>>;
  /** Text of a configuration file, passed by `--config`. */
  readonly configYaml?: string;
  /** Further arguments of `serve`. */
  readonly args?: readonly string[];
  /** Planes whose "listening" line is awaited (`['data', 'admin']`). */
  readonly planes?: readonly string[];
  /** Its limit of open files (`ulimit -n`). */
  readonly openFilesMax?: number;
}

export type LogLine = Readonly<Record<string, unknown>>;

export interface Sidecar {
  readonly dataUrl: string;
  readonly dataPort: number;
  readonly adminUrl: string;
  readonly adminPort: number;
  /** Port 0 unless `planes` names `verify`. */
  readonly verifyUrl: string;
  readonly verifyPort: number;
  readonly pid: number;
  /** The JSON lines logged so far. */
  logs(): readonly LogLine[];
  /** Everything printed on standard output and standard error so far. */
  output(): string;
  /** Resolves with the first line (of the past too) that fits; rejects when the process ends before. */
  logged(fits: (line: LogLine) => boolean): Promise<LogLine>;
  /** True while the process runs. */
  alive(): boolean;
  /** True when the process ended and nobody had asked it to. */
  crashed(): boolean;
  signal(signal: NodeJS.Signals): void;
  /** SIGTERM, then the exit code (-1: ended by a signal). */
  stop(): Promise<number>;
  /** SIGKILL. */
  kill(): Promise<void>;
}

/** Starts a sidecar and answers when its listeners are open; rejects with its output when it ends before. */
export async function startSidecar(options: SidecarOptions): Promise<Sidecar> {
  const dir = mkdtempSync(join(tmpdir(), 'tk-sidecar-'));
  const configArgs: string[] = [];
  if (options.configYaml !== undefined) {
    const path = join(dir, 'tollkeeper.yaml');
    writeFileSync(path, options.configYaml);
    configArgs.push('--config', path);
  }
  const command = [process.execPath, mainScript, 'serve', ...configArgs, ...(options.args ?? [])];
  const limited = ['/bin/sh', '-c', `ulimit -n ${options.openFilesMax} && exec "$0" "$@"`, ...command];
  const [program = '', ...args] = options.openFilesMax === undefined ? command : limited;
  const child = spawnTied(program, args, {
    env: childEnvironment({
      TOLLKEEPER_LISTEN: '127.0.0.1:0',
      TOLLKEEPER_VERIFY_LISTEN: '127.0.0.1:0',
      TOLLKEEPER_ADMIN_LISTEN: '127.0.0.1:0',
      // A busy machine must not turn a slow answer of Redis, or a process that got no time, into 503; a test of the
      // deadline, or of the lag, sets its own.
      TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000',
      TOLLKEEPER_EVENT_LOOP_LAG_MAX_MS: '0',
      // One process and not one for each core, for the economy of the suite; see `defaultWorkers` for the others.
      TOLLKEEPER_WORKERS: '1',
      ...options.env,
    }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: LogLine[] = [];
  let output = '';
  let isAskedToEnd = false;
  const waiting = new Set<() => void>();
  const wake = (): void => {
    for (const check of waiting) check();
  };
  const read = (line: string): void => {
    output += `${line}\n`;
    if (line.startsWith('{')) lines.push(parseLine(line));
    wake();
  };
  if (child.stdout === null || child.stderr === null) throw new Error('the sidecar has no pipes');
  createInterface({ input: child.stdout }).on('line', read);
  createInterface({ input: child.stderr }).on('line', read);
  child.once('close', () => {
    rmSync(dir, { recursive: true, force: true });
    wake();
  });

  const logged = (fits: (line: LogLine) => boolean): Promise<LogLine> =>
    new Promise((resolve, reject) => {
      const check = (): void => {
        const found = lines.find(fits);
        if (found === undefined && !hasExited(child)) return;
        waiting.delete(check);
        if (found === undefined)
          reject(new Error(`the sidecar ended (${child.exitCode ?? child.signalCode}):\n${output}`));
        else resolve(found);
      };
      waiting.add(check);
      check();
    });

  const ports = new Map<string, number>();
  for (const plane of options.planes ?? ['data', 'admin']) {
    const line = await logged((entry) => entry.msg === 'listening' && entry.plane === plane);
    ports.set(plane, Number(String(line.address).replace(/^.*:/, '')));
  }
  const dataPort = ports.get('data') ?? 0;
  const adminPort = ports.get('admin') ?? 0;
  const verifyPort = ports.get('verify') ?? 0;
  return {
    dataUrl: `http://127.0.0.1:${dataPort}`,
    dataPort,
    adminUrl: `http://127.0.0.1:${adminPort}`,
    adminPort,
    verifyUrl: `http://127.0.0.1:${verifyPort}`,
    verifyPort,
    pid: child.pid as number,
    logs: () => lines,
    output: () => output,
    logged,
    alive: () => !hasExited(child),
    crashed: () => hasExited(child) && !isAskedToEnd,
    signal(signal) {
      isAskedToEnd ||= signal === 'SIGTERM' || signal === 'SIGKILL';
      child.kill(signal);
    },
    async stop() {
      isAskedToEnd ||= !hasExited(child);
      if (adminPort > 0 && !hasExited(child)) {
        // A sidecar that is stopped or ending does not answer; that is no matter of this search.
        const answer = await fetch(`http://127.0.0.1:${adminPort}/metrics`, { signal: AbortSignal.timeout(1000) }).then(
          (found) => found.text(),
          () => '',
        );
        expectNoSecret(answer, 'the metrics of a sidecar');
      }
      // Its own bounds are shorter: 10 s for requests under way, 8 s for a worker to end beyond them.
      await endProcess(child, 'SIGTERM', 60_000);
      expectNoSecret(output, 'the output of a sidecar');
      return child.exitCode ?? -1;
    },
    async kill() {
      isAskedToEnd ||= !hasExited(child);
      await endProcess(child, 'SIGKILL');
    },
  };
}

function parseLine(line: string): LogLine {
  try {
    return JSON.parse(line) as LogLine;
  } catch {
    return { msg: line };
  }
}
