/** Runs nginx for a peer: one worker in the first process, so that there is one process to measure and to end. */
import { mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { endProcess, findExecutable, hasExited, spawnTied } from '../../test/support/process.js';
import { pinned } from '../harness/cores.js';
import type { Stage } from '../harness/stage.js';

const startAttempts = 200;

export interface RunningNginx {
  readonly pid: number;
  /** What it wrote as errors. */
  errors(): string;
  stop(): Promise<void>;
}

/** Why nginx cannot run here, or undefined. */
export function missingNginx(): string | undefined {
  return findExecutable('nginx') === undefined ? 'nginx is not installed' : undefined;
}

/**
 * Starts nginx with the `http` block given (and what belongs outside of it), pinned to the measured core, and answers
 * when it accepts connections on `port`. Connections live longer than a run.
 */
export async function startNginx(
  stage: Stage,
  name: string,
  port: number,
  http: string,
  outside = '',
): Promise<RunningNginx> {
  const prefix = join(stage.dir, name);
  mkdirSync(prefix, { recursive: true });
  const config = stage.file(`${name}.conf`, configuration(http, outside));
  const program = findExecutable('nginx') as string;
  const [file, args] = pinned(program, ['-p', prefix, '-c', config, '-e', 'stderr'], stage.cores.subject);
  const child = spawnTied(file, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let errors = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    errors = `${errors}${chunk.toString()}`.slice(-5000);
  });
  for (let attempt = 0; !(await accepts(port)); attempt++) {
    if (hasExited(child) || attempt >= startAttempts) throw new Error(`nginx does not listen:\n${errors}`);
  }
  return { pid: child.pid as number, errors: () => errors, stop: () => endProcess(child, 'SIGTERM') };
}

/** The upstream as nginx should know it: connections are kept open. */
export function upstreamBlock(address: string): string {
  return `
  upstream behind {
    server ${address};
    keepalive 256;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
  }`;
}

function configuration(http: string, outside: string): string {
  return `
daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
${outside}
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  # Bodies of 1 MiB stay in memory, as they do in Tollkeeper.
  client_max_body_size 4m;
  client_body_buffer_size 1m;
  proxy_buffers 32 64k;
  proxy_busy_buffers_size 1m;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  ${http}
}
`;
}

/** Whether somebody accepts connections on the port; waits a moment before it says no. */
function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      setTimeout(resolve, 25, false);
    });
  });
}
