/**
 * The peer `fastify` in a process of its own: @fastify/bearer-auth, @fastify/rate-limit on Redis, @fastify/http-proxy.
 * Arguments: upstream, Redis, and the tokens as JSON. Keys are in memory and it writes no access log, both of which
 * are in its favour.
 */
import bearerAuth from '@fastify/bearer-auth';
import httpProxy from '@fastify/http-proxy';
import rateLimit from '@fastify/rate-limit';
import { fastify } from 'fastify';
import { Redis } from 'ioredis';

const [, , upstream = '', redisUrl = '', tokensJson = '[]'] = process.argv;
const tokens = JSON.parse(tokensJson) as string[];
const neverReached = 1_000_000_000;

const app = fastify({ logger: false, keepAliveTimeout: 300_000 });
await app.register(bearerAuth, { keys: new Set(tokens) });
await app.register(rateLimit, {
  max: neverReached,
  timeWindow: 60_000,
  redis: new Redis(redisUrl, { enableAutoPipelining: true }),
  nameSpace: 'peer:fastify:',
  keyGenerator: (request) => request.headers.authorization ?? '',
  enableDraftSpec: true,
});
await app.register(httpProxy, { upstream, undici: { connections: 64, pipelining: 1, keepAliveTimeout: 300_000 } });

const address = (await app.listen({ host: '127.0.0.1', port: 0 })).replace('http://', '');
console.log(JSON.stringify({ msg: 'listening', plane: 'data', address }));
process.once('SIGTERM', () => process.exit(0));
