/** nginx with a plain `proxy_pass` and keep-alive to the upstream, no authentication: the floor of an L7 proxy. */
import { connect } from 'node:net';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../test/support/ports.js';
import { endProcess, findExecutable, hasExited, spawnTied } from '../../test/support/process.js';
import { upstreamBody } from '../harness/answers.js';
import { pinned } from '../harness/cores.js';
import { productRequest, type Scenario, statusFaults } from '../scenarios/scenario.js';

const startAttempts = 200;

export const nginxProxy: Scenario = {
  name: 'nginx-proxy',
  about: 'nginx, plain proxy_pass, one worker, keep-alive upstream, no access log, no authentication',
  isPeer: true,
  profiled: false,
  missing: () => (findExecutable('nginx') === undefined ? 'nginx is not installed' : undefined),
  async start(stage) {
    const upstream = await stage.upstream();
    const port = await freePort();
    const prefix = join(stage.dir, 'nginx');
    mkdirSync(prefix, { recursive: true });
    const config = stage.file('nginx.conf', configuration(port, new URL(upstream.origin('data')).host));
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
    return {
      pids: [child.pid as number],
      origin: `http://127.0.0.1:${port}`,
      plan: { kind: 'fixed', requests: [productRequest('none')] },
      bodies: [upstreamBody],
      check: (report) => Promise.resolve({ faults: statusFaults(report, [200]) }),
      stop: () => endProcess(child, 'SIGTERM'),
    };
  },
};

/**
 * The worker runs in the first process (`master_process off`): the same event loop, but one process to measure and
 * to end. Connections live longer than a run, as autocannon expects.
 */
function configuration(port: number, upstream: string): string {
  return `
daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  upstream behind {
    server ${upstream};
    keepalive 256;
    keepalive_requests 1000000000;
  }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / {
      proxy_pass http://behind;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }
  }
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
