/** A Fastify gateway out of the framework's own plugins: Bearer keys, a rate limit on Redis, a proxy. */
import { upstreamBody } from '../harness/answers.js';
import { scriptArgs, startNode } from '../harness/node-child.js';
import { productRequest, type Scenario, statusFaults } from '../scenarios/scenario.js';

export const fastifyGateway: Scenario = {
  name: 'fastify',
  about: 'Fastify with bearer-auth (keys in memory), rate-limit on Redis and http-proxy; no access log',
  isPeer: true,
  profiled: false,
  missing: () => undefined,
  async start(stage) {
    const [store, upstream] = [await stage.store(), await stage.upstream()];
    const script = new URL('fastify-server.ts', import.meta.url);
    const args = scriptArgs(script, upstream.origin('data'), store.url, JSON.stringify(store.unlimited));
    const server = await startNode(args, { core: stage.cores.subject, planes: ['data'] });
    return {
      pids: [server.pid],
      redisPid: store.pid,
      origin: server.origin('data'),
      plan: { kind: 'fixed', requests: store.unlimited.map(productRequest) },
      bodies: [upstreamBody],
      heads: ['ratelimit-remaining: '],
      check: (report) => Promise.resolve({ faults: statusFaults(report, [200]) }),
      stop: async () => void (await server.stop()),
    };
  },
};
