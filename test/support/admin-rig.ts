/** The admin plane in this process, on a Redis of its own, with people in it. */
import { LiveTail } from '../../src/accesslog/live-tail.js';
import { AdminServer } from '../../src/admin/server.js';
import { Authenticator } from '../../src/admin/authenticate.js';
import { IdempotentRequests } from '../../src/admin/idempotency.js';
import type { AdminApiParts } from '../../src/admin/api.js';
import { parseMasterKeys } from '../../src/credential/sealed-secret.js';
import { TrustedProxies } from '../../src/http/forwarded.js';
import type { Management } from '../../src/management/management.js';
import { connect } from '../../src/redis/connect.js';
import { createLogger } from '../../src/telemetry/logger.js';
import { LoginAttempts } from '../../src/user/login-attempts.js';
import type { PasswordCost } from '../../src/user/password.js';
import { type SessionOptions, Sessions } from '../../src/user/session.js';
import { adminKey } from './admin-api.js';
import { openManagement, operator } from './management.js';
import { type RedisServer, startRedis } from './redis.js';

export interface Asked {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: Record<string, unknown>;
}

export interface AskOptions {
  readonly method?: string;
  /** Sent as JSON; a string as it is. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Admin key; '' sends none. */
  readonly key?: string;
}

export interface AdminRig {
  readonly url: string;
  readonly redis: RedisServer;
  readonly management: Management;
  /** Lines of the process' log. */
  readonly logged: readonly string[];
  ask(path: string, options?: AskOptions): Promise<Asked>;
  stop(): Promise<void>;
}

/** A management that is given is closed with the rig; its Redis is the caller's. */
export interface AdminRigOptions extends Partial<AdminApiParts> {
  readonly masterKey?: boolean;
  /** Passwords are cheap unless it is about them. */
  readonly passwordCost?: PasswordCost;
  readonly sessionTimes?: Partial<SessionOptions>;
  /** Of a live tail. */
  readonly heartbeatMs?: number;
}

/** Password of every user of the tests. */
export const password = 'correct horse battery';

/** Starts it; the loopback address is a trusted proxy, so that a test says where a client comes from. */
export async function startAdminRig(options: AdminRigOptions = {}): Promise<AdminRig> {
  const { masterKey = true, passwordCost: _cost, sessionTimes, heartbeatMs = 15_000, ...parts } = options;
  const redis = await startRedis();
  const masterKeys = masterKey ? parseMasterKeys(Buffer.alloc(32, 7).toString('base64')) : undefined;
  const management =
    options.management ??
    (await openManagement(redis.url, {
      masterKeys,
      auditMaxEntries: 100_000,
      passwordCost: options.passwordCost ?? { logN: 10, r: 8, p: 1 },
    }));
  const { store } = management;
  const logged: string[] = [];
  const sessions = new Sessions(store, { idleMs: 1_800_000, absoluteMs: 43_200_000, ...sessionTimes });
  const server = new AdminServer({
    listen: '127.0.0.1:0',
    metrics: () => Promise.resolve(''),
    readiness: () => ({ ready: true, reasons: [], warnings: [] }),
    logger: createLogger('info', { write: (line: string) => logged.push(line) }),
    api: {
      management,
      sessions,
      attempts: new LoginAttempts(store),
      authenticator: new Authenticator({
        adminKey,
        users: management.users,
        adminKeys: management.adminKeys,
        sessions,
        trustedProxies: new TrustedProxies(['127.0.0.1']),
      }),
      idempotent: new IdempotentRequests(store, masterKeys),
      explain: { described: () => Promise.resolve({ token: null }), logged: () => Promise.resolve([]) },
      records: {
        redis: store.redis,
        store,
        tail: new LiveTail(store.redis, () => connect({ url: redis.url, commandTimeoutMs: 20_000 }, 'log')),
        retentionDays: 30,
        heartbeatMs,
      },
      scopes: () => ['products:read'],
      requestsPerMinute: 0,
      version: '9.9.9',
      ...parts,
    },
  });
  const url = `http://${await server.listen()}`;
  return {
    url,
    redis,
    management,
    logged,
    ask: async (path, { method = 'GET', body, headers = {}, key = adminKey } = {}) => {
      const response = await fetch(url + path, {
        method,
        headers: {
          ...(key === '' ? {} : { authorization: `Bearer ${key}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      });
      const text = await response.text();
      const json = text.startsWith('{') ? (JSON.parse(text) as Record<string, unknown>) : {};
      return { status: response.status, headers: response.headers, text, json };
    },
    stop: async () => {
      await server.close(1000);
      await store.close();
      await redis.stop();
    },
  };
}

/** A browser: keeps its cookie, sends what a page of the same origin sends. */
export class Browser {
  readonly #rig: AdminRig;
  readonly #address: string;
  cookie = '';

  constructor(rig: AdminRig, address = '198.51.100.1') {
    this.#rig = rig;
    this.#address = address;
  }

  async ask(path: string, { headers = {}, ...options }: AskOptions = {}): Promise<Asked> {
    const answer = await this.#rig.ask(path, {
      ...options,
      key: '',
      headers: {
        'x-forwarded-for': this.#address,
        'x-tollkeeper-request': '1',
        ...(this.cookie === '' ? {} : { cookie: this.cookie }),
        ...headers,
      },
    });
    const [set] = answer.headers.getSetCookie();
    if (set !== undefined) this.cookie = set.split(';', 1)[0] as string;
    return answer;
  }

  login(name: string, secret = password, headers: Readonly<Record<string, string>> = {}): Promise<Asked> {
    return this.ask('/v1/login', { method: 'POST', body: { name, password: secret }, headers });
  }
}

/** Two tenants with an owner each, and an operator: `ann` of acme, `gil` of globex, `olga`. */
export async function populate({ management }: Pick<AdminRig, 'management'>): Promise<void> {
  const all = management.as(operator);
  for (const slug of ['acme', 'globex']) await all.createTenant({ slug, name: slug, maxTokens: 100 });
  await all.createUser({ name: 'ann', role: 'owner', tenant: 'acme', password });
  await all.createUser({ name: 'gil', role: 'owner', tenant: 'globex', password });
  await all.createUser({ name: 'olga', role: 'operator', password });
}
