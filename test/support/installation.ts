/** A Redis, an upstream and what users set up before they call: tenants and tokens, made by commands as users make them. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expectNoSecretIn, plantSecret } from './canary.js';
import { runJsonInProcess } from './command-line.js';
import { type RedisOptions, type RedisServer, startRedis } from './redis.js';
import { type Sidecar, type SidecarOptions, startSidecar } from './sidecar.js';
import { startUpstream, type Upstream, type UpstreamHandler } from './upstream.js';

export interface IssuedToken {
  readonly id: string;
  readonly secret: string;
}

export const policyYaml = `
policy:
  default: deny
  scopes: [products:read, products:write, orders:read, orders:write, admin:all]
  routes:
    - { methods: [GET, HEAD], path: /api/v1/products, scope: products:read }
    - { methods: [GET, HEAD], path: "/api/v1/products/{id}", scope: products:read }
    - { methods: [POST], path: /api/v1/products/search, scope: products:read }
    - { methods: [POST], path: "/api/v1/orders/{id}/retry", scope: orders:write, cost: 5 }
    - { methods: [GET], path: /api/v1/admin/tokens, scope: admin:all }
    - { methods: [PUT, GET], path: "/files/{name}", scope: products:read }
    - { methods: [GET], path: /status, public: true }
`;

export interface Installation {
  readonly redis: RedisServer;
  readonly upstream: Upstream;
  /** Environment of a command or sidecar that uses this installation. */
  readonly env: Readonly<Record<string, string>>;
  tenant(slug: string, ...flags: string[]): Promise<void>;
  token(tenant: string, ...flags: string[]): Promise<IssuedToken>;
  /** Runs a command that must succeed and answers what it printed as JSON. */
  command(...args: string[]): Promise<unknown>;
  sidecar(options?: Partial<SidecarOptions>): Promise<Sidecar>;
  stop(): Promise<void>;
}

/** Starts Redis and the upstream; sidecars it starts are stopped with it. */
export async function startInstallation(
  options: { redis?: RedisOptions; upstream?: UpstreamHandler; policy?: string } = {},
): Promise<Installation> {
  const redis = await startRedis(options.redis);
  const upstream = options.upstream === undefined ? await startUpstream() : await startUpstream(options.upstream);
  const dir = mkdtempSync(join(tmpdir(), 'tk-installation-'));
  const policyPath = join(dir, 'policy.yaml');
  writeFileSync(policyPath, options.policy ?? policyYaml);
  const env = {
    TOLLKEEPER_REDIS_URL: redis.url,
    TOLLKEEPER_UPSTREAM: upstream.url,
    TOLLKEEPER_POLICY: policyPath,
    TOLLKEEPER_MASTER_KEY: Buffer.alloc(32, 7).toString('base64'),
  };
  plantSecret(env.TOLLKEEPER_MASTER_KEY, 'the master key');
  const sidecars: Sidecar[] = [];
  const command = (...args: string[]): Promise<unknown> => runJsonInProcess(args, env);
  return {
    redis,
    upstream,
    env,
    command,
    tenant: async (slug, ...flags) => {
      await command('tenant', 'create', slug, '--name', slug, ...flags);
    },
    token: async (tenant, ...flags) => {
      const scopes = flags.includes('--scopes') ? [] : ['--scopes', 'products:read'];
      const name = flags.includes('--name') ? [] : ['--name', 'test'];
      const answer = (await command('token', 'create', '--tenant', tenant, ...name, ...scopes, ...flags)) as {
        token: { id: string };
        secret: string;
      };
      plantSecret(answer.secret, 'the secret of a token');
      return { id: answer.token.id, secret: answer.secret };
    },
    sidecar: async (extra = {}) => {
      const sidecar = await startSidecar({ ...extra, env: { ...env, ...extra.env } });
      sidecars.push(sidecar);
      return sidecar;
    },
    stop: async () => {
      const leaks: unknown[] = [];
      const stopped = sidecars.map((sidecar) =>
        sidecar.stop().catch(async (error: unknown) => {
          leaks.push(error);
          await sidecar.kill();
        }),
      );
      await Promise.all(stopped);
      const client = redis.client();
      // A Redis that the test has killed or frozen is not asked.
      const answers = await Promise.race([client.ping().catch(() => ''), afterMs(1000)]);
      if (answers === 'PONG') await expectNoSecretIn(client).catch((error: unknown) => leaks.push(error));
      await upstream.stop();
      await redis.stop();
      rmSync(dir, { recursive: true, force: true });
      if (leaks.length > 0) throw leaks[0];
    },
  };
}

function afterMs(ms: number): Promise<string> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms, '').unref();
  });
}
