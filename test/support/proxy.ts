/** A reverse proxy of the e2e tests: a program of the system, started with a generated configuration in a folder of its own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from './cli.js';
import { endProcess, findExecutable, hasExited, spawnTied } from './process.js';
import { until } from './until.js';

export interface ReverseProxy {
  readonly port: number;
  /** What it printed, for the message of a failed test. */
  output(): string;
  stop(): Promise<void>;
}

/** Where the proxy listens, and what it is to put together. */
export interface ProxyPlan {
  readonly port: number;
  /** `http://127.0.0.1:port` of the upstream and of the verify plane. */
  readonly upstream: string;
  readonly verify: string;
}

/**
 * Absolute path of a program that the e2e tests need.
 * @throws Error that says how to get it: a test must not pass because its proxy is missing.
 */
export function requireProgram(name: string): string {
  const found = findExecutable(name);
  if (found === undefined) {
    throw new Error(`${name} is not installed: run node scripts/setup.mjs --test as root, or apt-get install ${name}`);
  }
  return found;
}

/** Writes what `tollkeeper gen <name>` makes for the plan into a new folder and answers its path. */
export async function generatedFolder(name: string, plan: ProxyPlan): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), `tk-${name}-`));
  const flags = ['--listen', `127.0.0.1:${plan.port}`, '--upstream', plan.upstream, '--verify', plan.verify];
  const { code, stderr } = await runCommand(['gen', name, ...flags, '--out', folder]);
  if (code !== 0) throw new Error(`tollkeeper gen ${name} ended with ${code}: ${stderr}`);
  return folder;
}

/** Starts the program and answers when its port takes connections; `folder` is removed when it has stopped. */
export async function startProxy(
  file: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  folder: string,
  port: number,
): Promise<ReverseProxy> {
  const child = spawnTied(file, args, {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const keep = (chunk: Buffer): void => {
    output += chunk.toString();
  };
  child.stdout?.on('data', keep);
  child.stderr?.on('data', keep);
  await until(async () => {
    if (hasExited(child)) throw new Error(`${file} ended with ${child.exitCode ?? child.signalCode}:\n${output}`);
    return takesConnections(port);
  });
  return {
    port,
    output: () => output,
    async stop() {
      await endProcess(child, 'SIGTERM');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function takesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
