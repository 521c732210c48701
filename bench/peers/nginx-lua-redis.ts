/**
 * nginx doing Tollkeeper's job with its Lua module and Redis: token by its SHA-1, scope, the same sliding window in a
 * script, identity and limit headers, one log entry. What it does not do: HMAC, tenant limits, quotas, strict
 * framing and paths, metrics, exactly-once logging, revocation records.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../test/support/ports.js';
import { upstreamBody } from '../harness/answers.js';
import type { Store } from '../harness/stage.js';
import { productRequest, type Scenario, statusFaults } from '../scenarios/scenario.js';
import { missingNginx, startNginx, upstreamBlock } from './nginx.js';

const modules = '/usr/lib/nginx/modules';
const redisLibrary = '/usr/share/lua/5.1/nginx/redis.lua';
const folder = new URL('nginx-lua-redis/', import.meta.url);
const luaFolder = new URL('../../lua/', import.meta.url);
const neverReached = 1_000_000_000;
const logDeadlineMs = 10_000;

export const nginxLuaRedis: Scenario = {
  name: 'nginx-lua-redis',
  about: 'nginx with its Lua module: token, scope and limit by one script call a request, log entries in a pipeline',
  isPeer: true,
  profiled: false,
  missing() {
    if (!existsSync(`${modules}/ngx_http_lua_module.so`)) return 'the Lua module of nginx is not installed';
    if (!existsSync(redisLibrary)) return `${redisLibrary} is not installed`;
    return missingNginx();
  },
  async start(stage) {
    const [store, upstream] = [await stage.store(), await stage.upstream()];
    const sha = await prepare(store);
    const port = await freePort();
    const http = httpBlock(port, new URL(upstream.origin('data')).host);
    const nginx = await startNginx(stage, 'nginx-lua-redis', port, http, outside(store, sha));
    return {
      pids: [nginx.pid],
      redisPid: store.pid,
      origin: `http://127.0.0.1:${port}`,
      plan: { kind: 'fixed', requests: store.unlimited.map(productRequest) },
      bodies: [upstreamBody],
      heads: ['X-Request-Id: ', 'RateLimit: "token-60s";r='],
      async check(report) {
        const faults = statusFaults(report, [200]);
        const logged = await countEntries(store, report.answered);
        if (logged !== report.answered) faults.push(`${logged} log entries for ${report.answered} answers`);
        if (nginx.errors() !== '') faults.push(nginx.errors());
        return { faults };
      },
      stop: nginx.stop,
    };
  },
};

/** Text of the script that nginx calls, with the sliding window of the sidecar in it. */
export function peerScript(): string {
  const text = readFileSync(new URL('admit.lua', folder), 'utf8');
  const include = '-- include lib/sliding-window.lua';
  if (!text.includes(include)) throw new Error('bench/peers/nginx-lua-redis/admit.lua includes no sliding window');
  return text.replace(include, () => readFileSync(new URL('lib/sliding-window.lua', luaFolder), 'utf8'));
}

/** Loads the script and makes a record for each token; answers the script's SHA-1. */
async function prepare({ redis, unlimited }: Store): Promise<string> {
  for (const key of await redis.keysBuffer('peer:*')) await redis.unlink(key);
  for (const [index, token] of unlimited.entries()) {
    const key = Buffer.concat([Buffer.from('peer:token:'), createHash('sha1').update(token).digest()]);
    const tenant = index % 2 === 0 ? 'acme' : 'globex';
    const record = { id: token.split('_')[2] as string, tenant, scopes: 'products:read', active: '1' };
    await redis.hset(key, { ...record, limit: neverReached, windowMs: 60_000 });
  }
  return String(await redis.script('LOAD', peerScript()));
}

async function countEntries({ redis }: Store, expected: number): Promise<number> {
  const until = performance.now() + logDeadlineMs;
  for (;;) {
    let entries = 0;
    for (const key of await redis.keys('peer:log:*')) entries += await redis.xlen(key);
    if (entries >= expected || performance.now() >= until) return entries;
    await new Promise((resolve) => {
      setTimeout(resolve, 50);
    });
  }
}

function outside({ url }: Store, sha: string): string {
  return `
load_module ${modules}/ndk_http_module.so;
load_module ${modules}/ngx_http_lua_module.so;
env PEER_REDIS_PORT=${new URL(url).port};
env PEER_SCRIPT_SHA=${sha};`;
}

function httpBlock(port: number, upstream: string): string {
  return `${upstreamBlock(upstream)}
  lua_package_path '${fileURLToPath(folder)}?.lua;;';
  init_by_lua_block { gate = require 'gate' }
  init_worker_by_lua_block { gate.init_worker() }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / {
      access_by_lua_block { gate.access() }
      header_filter_by_lua_block { gate.header() }
      log_by_lua_block { gate.log() }
      proxy_pass http://behind;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Request-Id $request_id;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
    }
  }`;
}
