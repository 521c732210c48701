/** nginx with a plain `proxy_pass` and keep-alive to the upstream, no authentication: the floor of an L7 proxy. */
import { freePort } from '../../test/support/ports.js';
import { upstreamBody } from '../harness/answers.js';
import { productRequest, type Scenario, statusFaults } from '../scenarios/scenario.js';
import { missingNginx, startNginx, upstreamBlock } from './nginx.js';

export const nginxProxy: Scenario = {
  name: 'nginx-proxy',
  about: 'nginx, plain proxy_pass, one worker, keep-alive upstream, no access log, no authentication',
  isPeer: true,
  profiled: false,
  missing: missingNginx,
  async start(stage) {
    const upstream = await stage.upstream();
    const port = await freePort();
    const nginx = await startNginx(stage, 'nginx-proxy', port, httpBlock(port, new URL(upstream.origin('data')).host));
    return {
      pids: [nginx.pid],
      origin: `http://127.0.0.1:${port}`,
      plan: { kind: 'fixed', requests: [productRequest('none')] },
      bodies: [upstreamBody],
      check: (report) => Promise.resolve({ faults: statusFaults(report, [200]) }),
      stop: nginx.stop,
    };
  },
};

function httpBlock(port: number, upstream: string): string {
  return `${upstreamBlock(upstream)}
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / {
      proxy_pass http://behind;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }
  }`;
}
