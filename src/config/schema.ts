/**
 * Every configuration key: its type, default, meaning and what is allowed, in one zod schema.
 *
 * The environment name of a key is derived ({@link environmentName}), docs/configuration.md is generated from here
 * (describe.ts), and load.ts reads every source against it. A key that is not here does not exist.
 */
import { z } from 'zod';
import { isAddressBlock, isHostName, isRedisUrl, parseAddress, parseUpstreamAddress } from './formats.js';
import { parseMasterKeys } from './master-key.js';

/** How a value is written as text, in the environment or behind a flag. */
type ValueKind = 'text' | 'integer' | 'switch' | 'list' | 'path' | 'policy';

export interface KeyDescription {
  readonly group: string;
  readonly kind: ValueKind;
  /** What it is for, one sentence or two; Markdown. */
  readonly meaning: string;
  /** What a right value looks like; ends the sentence "allowed is …". */
  readonly allowed: string;
  /** A fitting value for the example file, where the default is none. */
  readonly example?: string;
  /** The value is never printed, and it may be given as a file that holds it. */
  readonly secret?: true;
  /** Of a list: in the YAML file a single item, or several with commas, may be written as a text. */
  readonly mayStandAlone?: true;
  /** A running `serve` takes a new value on SIGHUP. */
  readonly reloadable?: true;
}

const descriptions = z.registry<KeyDescription>();

function text(about: Omit<KeyDescription, 'kind'>, isRight: (value: string) => boolean) {
  return [z.string().refine(isRight), { ...about, kind: 'text' }] as const;
}

function keyWithDefault(value: string, [type, about]: ReturnType<typeof text>) {
  return type.default(value).register(descriptions, about);
}

function keyWithout([type, about]: ReturnType<typeof text>) {
  return type.optional().register(descriptions, about);
}

function path(group: string, meaning: string, example: string) {
  const about = { group, kind: 'path', meaning, allowed: 'the path of a file', example } as const;
  return z.string().min(1).optional().register(descriptions, about);
}

function integer(group: string, fallback: number, [min, max]: readonly [number, number], meaning: string) {
  const allowed = `a whole number from ${min} to ${max}`;
  return z
    .int()
    .min(min)
    .max(max)
    .default(fallback)
    .register(descriptions, { group, kind: 'integer', meaning, allowed });
}

function onOff(group: string, fallback: boolean, meaning: string) {
  return z
    .boolean()
    .default(fallback)
    .register(descriptions, { group, kind: 'switch', meaning, allowed: 'true or false' });
}

const address = 'host:port, such as 127.0.0.1:8080 or [::1]:8080';
const redisUrl = 'redis://[user:password@]host:port[/db], rediss://… (TLS) or unix:///path[?db=n]';
const outageModes = ['deny', 'serve-known'] as const;
const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
const hourMs = 3_600_000;

const listeners = {
  listen: keyWithDefault(
    '0.0.0.0:8080',
    text(
      {
        group: 'Listeners',
        allowed: `${address}, or off`,
        meaning:
          'Where the data plane listens; port 0 takes a free one. `off` where only the verify plane is asked: `upstream` is not needed then.',
      },
      (value) => value === 'off' || parseAddress(value) !== undefined,
    ),
  ),
  verifyListen: keyWithDefault(
    '127.0.0.1:8081',
    text(
      {
        group: 'Listeners',
        allowed: `${address}, or off`,
        meaning:
          'Where the verify plane listens: nginx, Caddy, HAProxy, Traefik or Envoy ask there whether a request may pass. Only `trustedProxies` are answered.',
      },
      (value) => value === 'off' || parseAddress(value) !== undefined,
    ),
  ),
  adminListen: keyWithDefault(
    '127.0.0.1:9090',
    text(
      {
        group: 'Listeners',
        allowed: address,
        meaning: 'Where the admin plane (`/v1`, `/metrics`, `/healthz`, `/readyz`) listens. Keep it private.',
      },
      (value) => parseAddress(value) !== undefined,
    ),
  ),
  tlsCert: path(
    'Listeners',
    'Certificate chain (PEM): the data plane then serves HTTPS. Needs `tlsKey`.',
    '/etc/tollkeeper/tls.crt',
  ),
  tlsKey: path('Listeners', 'Private key (PEM) of `tlsCert`.', '/etc/tollkeeper/tls.key'),
  workers: integer('Listeners', 1, [1, 256], 'Processes that share the data port.'),
  shutdownTimeoutMs: integer(
    'Listeners',
    10_000,
    [0, hourMs],
    'After SIGTERM, ms until requests still running are cut off.',
  ),
};

const upstream = {
  upstream: z
    .array(z.string().refine((value) => parseUpstreamAddress(value) !== undefined))
    .min(1)
    .optional()
    .register(descriptions, {
      group: 'Upstream',
      kind: 'list',
      allowed:
        'http://host[:port], https://host[:port] or unix:/path/of/socket, or a list of them, without path, query or password',
      meaning:
        'The HTTP API behind Tollkeeper, at one address or several that are equal. Requests go to the one with the fewest under way. `serve` needs it.',
      example: 'http://127.0.0.1:3000',
      mayStandAlone: true,
    }),
  upstreamConnectTimeoutMs: integer('Upstream', 2000, [1, hourMs], 'Ms until a connection must stand, else 502.'),
  upstreamTimeoutMs: integer(
    'Upstream',
    30_000,
    [1, hourMs],
    'Ms until the head of the answer must be there, else 504.',
  ),
  upstreamIdleTimeoutMs: integer(
    'Upstream',
    60_000,
    [1, hourMs],
    'Ms that may pass between two pieces of a body, else the answer is cut off.',
  ),
  upstreamConnectionsMax: integer('Upstream', 256, [1, 65_535], 'Connections to each upstream address, per worker.'),
  upstreamKeepAliveMs: integer(
    'Upstream',
    4000,
    [0, hourMs],
    'Ms that a connection may wait for its next request; keep it below what the upstream allows (Node 5 s, nginx 75 s).',
  ),
  upstreamConnectionMaxAgeMs: integer(
    'Upstream',
    300_000,
    [1, 24 * hourMs],
    'Ms after which a connection takes no further request, so that a changed DNS record is followed.',
  ),
  upstreamTlsCa: path(
    'Upstream',
    'Certificates (PEM) to trust for `https://`, instead of the system’s.',
    '/etc/tollkeeper/upstream-ca.crt',
  ),
  upstreamTlsCert: path(
    'Upstream',
    'Client certificate (PEM) for `https://`: the upstream can then refuse everybody else. Needs `upstreamTlsKey`.',
    '/etc/tollkeeper/upstream.crt',
  ),
  upstreamTlsKey: path('Upstream', 'Private key (PEM) of `upstreamTlsCert`.', '/etc/tollkeeper/upstream.key'),
  upstreamTlsName: keyWithout(
    text(
      {
        group: 'Upstream',
        allowed: 'a host name, such as api.internal',
        meaning: 'Name that the certificate of every `https://` address must bear, instead of the address’ own host.',
        example: 'api.internal',
      },
      isHostName,
    ),
  ),
  upstreamEjectAfter: integer(
    'Upstream',
    3,
    [1, 1000],
    'Of several upstream addresses: failures in a row, of requests or health checks, that set one aside.',
  ),
  upstreamEjectMs: integer(
    'Upstream',
    10_000,
    [1, hourMs],
    'Without `upstreamHealthPath`: ms until an address that was set aside is tried again, with one request at a time.',
  ),
  upstreamHealthPath: keyWithout(
    text(
      {
        group: 'Upstream',
        allowed: 'a path and query, such as /healthz',
        meaning: 'Of several upstream addresses: each is asked for this; good is an answer of 2xx or 3xx.',
        example: '/healthz',
      },
      (value) => /^\/[\x21\x22\x24-\x7e]*$/.test(value),
    ),
  ),
  upstreamHealthIntervalMs: integer('Upstream', 2000, [10, hourMs], 'Ms between two health checks, per worker.'),
  upstreamHealthTimeoutMs: integer(
    'Upstream',
    1000,
    [10, hourMs],
    'Ms that a health check may take to connect, and again to be answered.',
  ),
  upstreamHealthSuccesses: integer('Upstream', 2, [1, 1000], 'Good health checks in a row that bring an address back.'),
  bodyMaxBytes: integer(
    'Upstream',
    0,
    [0, Number.MAX_SAFE_INTEGER],
    'Largest request body in bytes, else 413; 0 sets no limit.',
  ),
};

/** Nodes of a Cluster, Sentinels. */
function nodes(meaning: string, example: string) {
  const allowed = 'a list of host:port, such as 10.0.0.1:6379 and 10.0.0.2:6379';
  const node = z.string().refine((value) => (parseAddress(value)?.port ?? 0) > 0);
  return z
    .array(node)
    .min(1)
    .optional()
    .register(descriptions, { group: 'Redis', kind: 'list', meaning, allowed, example });
}

function word(meaning: string, example: string) {
  const about = { group: 'Redis', allowed: '1 to 256 visible ASCII characters', meaning, example };
  return keyWithout(text(about, (value) => /^[\x21-\x7e]{1,256}$/.test(value)));
}

function password(meaning: string, example: string) {
  const about = { group: 'Redis', allowed: '1 to 1024 characters', meaning, example, secret: true } as const;
  return keyWithout(text(about, (value) => value.length >= 1 && value.length <= 1024));
}

const redis = {
  redisUrl: keyWithout(
    text(
      {
        group: 'Redis',
        allowed: redisUrl,
        meaning:
          'Redis or Valkey, 7.0 or newer, that holds tokens, tenants and counters. `serve` needs it, or `redisCluster`, or `redisSentinels`.',
        example: 'redis://127.0.0.1:6379',
        secret: true,
      },
      isRedisUrl,
    ),
  ),
  redisCluster: nodes(
    'Some nodes of a Redis Cluster that holds tokens, tenants and counters, instead of `redisUrl`; they tell of the others.',
    '10.0.0.1:6379, 10.0.0.2:6379, 10.0.0.3:6379',
  ),
  redisSentinels: nodes(
    'The Sentinels that say which server is the primary, instead of `redisUrl`. Needs `redisSentinelName`.',
    '10.0.0.1:26379, 10.0.0.2:26379, 10.0.0.3:26379',
  ),
  redisSentinelName: word('The name under which the Sentinels watch the primary.', 'mymaster'),
  redisUser: word('User (ACL) on the nodes of `redisCluster` or behind `redisSentinels`.', 'tollkeeper'),
  redisPassword: password(
    'Password on the nodes of `redisCluster` or behind `redisSentinels`.',
    '/run/secrets/tollkeeper-redis-password',
  ),
  redisSentinelUser: word('User (ACL) on the Sentinels themselves.', 'tollkeeper'),
  redisSentinelPassword: password('Password on the Sentinels themselves.', '/run/secrets/tollkeeper-sentinel-password'),
  redisTls: onOff('Redis', false, 'Reach the nodes of `redisCluster`, or Sentinels and servers, by TLS.'),
  redisTlsCa: path(
    'Redis',
    'Certificates (PEM) to trust for `rediss://` and `redisTls`, instead of the system’s.',
    '/etc/tollkeeper/redis-ca.crt',
  ),
  redisTlsCert: path(
    'Redis',
    'Client certificate (PEM) for `rediss://` and `redisTls`. Needs `redisTlsKey`.',
    '/etc/tollkeeper/redis.crt',
  ),
  redisTlsKey: path('Redis', 'Private key (PEM) of `redisTlsCert`.', '/etc/tollkeeper/redis.key'),
  redisCommandTimeoutMs: integer(
    'Redis',
    100,
    [1, 60_000],
    'Ms until an admission must be answered by Redis, else 503 `store-unavailable`.',
  ),
  onStoreOutage: z
    .enum(outageModes)
    .default('deny')
    .register(descriptions, {
      group: 'Redis',
      kind: 'text',
      allowed: `one of ${outageModes.join(', ')}`,
      meaning:
        'While Redis cannot be asked: `deny` answers 503; `serve-known` goes on serving Bearer tokens that Redis admitted shortly before, within their limits as each worker counts them. A route can say otherwise.',
    }),
  outageServeMaxS: integer(
    'Redis',
    300,
    [1, 86_400],
    'With `serve-known`, seconds for which a token is served after Redis last admitted it.',
  ),
  redisMinReplicas: z.int().min(0).max(16).optional().register(descriptions, {
    group: 'Redis',
    kind: 'integer',
    allowed: 'a whole number from 0 to 16',
    meaning:
      'Replicas that must confirm a change of a token (revoke, rotate, …) before it is called done; more when more are connected. Not set: 1 on a Cluster and behind Sentinels, else 0.',
    example: '1',
  }),
  logRedisUrl: keyWithout(
    text(
      {
        group: 'Redis',
        allowed: redisUrl,
        meaning: 'Another Redis (one server) for the access log; without it the log is kept beside the tokens.',
        example: 'redis://127.0.0.1:6380',
        secret: true,
      },
      isRedisUrl,
    ),
  ),
};

const credentials = {
  tokenPrefix: keyWithDefault(
    'tk_live',
    text(
      {
        group: 'Credentials',
        allowed: 'up to 32 lower-case letters and digits, words joined by _, such as sk_live',
        meaning: 'How tokens begin.',
      },
      (value) => value.length <= 32 && /^[a-z][a-z0-9]*(_[a-z0-9]+)*$/.test(value),
    ),
  ),
  apiKeyHeader: onOff('Credentials', false, 'Accept a token in `X-API-Key` too.'),
  foreignTokens: onOff(
    'Credentials',
    false,
    'Accept tokens of another form that were imported by their SHA-256; each unknown one then costs Redis a look-up.',
  ),
  hmacHeaderPrefix: keyWithDefault(
    'X-Tollkeeper-',
    text(
      {
        group: 'Credentials',
        allowed: 'the beginning of a header name, ending in a dash and of your own, such as X-Acme-',
        meaning: 'Before `Token`, `Timestamp`, `Signature` and `Nonce` in the headers of a signed request.',
      },
      isOwnHeaderPrefix,
    ),
  ),
  messageSignatures: onOff(
    'Credentials',
    true,
    'Take `Signature-Input` and `Signature` (RFC 9421) for a credential; off, both go to the upstream, whose business they are.',
  ),
  hmacMaxBody: integer(
    'Credentials',
    1_048_576,
    [0, 67_108_864],
    'Largest body of a signed request in bytes, else 413: it is held in memory until its digest is known.',
  ),
  masterKey: keyWithout(
    text(
      {
        group: 'Credentials',
        allowed: '32 bytes in base64 or hex (openssl rand -base64 32), or several of them as id:key,id:key',
        meaning:
          'Encrypts HMAC secrets at rest; HMAC tokens need it. The first key encrypts, all decrypt, so put a new one first.',
        example: '/run/secrets/tollkeeper-master-key',
        secret: true,
      },
      (value) => parseMasterKeys(value) !== undefined,
    ),
  ),
  adminKey: keyWithout(
    text(
      {
        group: 'Credentials',
        allowed: 'at least 16 visible ASCII characters (openssl rand -hex 32)',
        meaning: 'Opens the admin API to an operator: `Authorization: Bearer <key>`.',
        example: '/run/secrets/tollkeeper-admin-key',
        secret: true,
      },
      (value) => /^[\x21-\x7e]{16,512}$/.test(value),
    ),
  ),
};

const callers = {
  tenantHost: keyWithout(
    text(
      {
        group: 'Callers',
        allowed: 'a host name whose first label is *, such as *.example.com',
        meaning: 'The subdomain names the tenant; a token of another tenant then gets 403.',
        example: '*.example.com',
      },
      (value) => value.startsWith('*.') && value.includes('.', 2) && isHostName(value.slice(2)),
    ),
  ),
  trustedProxies: z.array(z.string().refine(isAddressBlock)).default([]).register(descriptions, {
    group: 'Callers',
    kind: 'list',
    allowed: 'a list of addresses and CIDR blocks, such as 10.0.0.0/8 and ::1',
    meaning: 'Peers whose `X-Forwarded-*` headers are believed.',
  }),
  authFailureLimit: integer(
    'Callers',
    300,
    [0, 1_000_000],
    'Failed authentications per minute and client address, then 429; 0 sets no limit.',
  ),
  wellKnown: onOff('Callers', true, 'Answer `GET /.well-known/tollkeeper`: a caller reads its own scopes and limits.'),
  policy: z
    .union([z.string().min(1), z.record(z.string(), z.unknown())])
    .optional()
    .register(descriptions, {
      group: 'Callers',
      kind: 'policy',
      allowed: 'the path of a policy file, or in the YAML file the policy itself',
      meaning: 'What each route needs; in the YAML file also written out in place.',
      reloadable: true,
    }),
};

const accessLog = {
  logRetentionDays: integer('Access log', 30, [1, 3650], 'Days that a day’s log is kept.'),
  logStreamMaxEntries: integer('Access log', 1_000_000, [1, 1_000_000_000], 'Entries kept per tenant and day.'),
  logQuery: onOff('Access log', false, 'Log the query of the request target; it may hold secrets of your clients.'),
  logBufferMaxEntries: integer(
    'Access log',
    50_000,
    [1, 10_000_000],
    'Entries held while Redis is away, per worker; more are dropped and counted.',
  ),
  logFlushIntervalMs: integer('Access log', 100, [1, 60_000], 'Ms until an entry is written at the latest.'),
  logLevel: z
    .enum(logLevels)
    .default('info')
    .register(descriptions, {
      group: 'Access log',
      kind: 'text',
      allowed: `one of ${logLevels.join(', ')}`,
      meaning: 'How much of its own working the process writes to standard output.',
    }),
};

const audit = {
  auditMaxEntries: integer(
    'Audit',
    100_000,
    [1000, 10_000_000],
    'Records of changes that are kept, about 400 bytes each; the same on every Tollkeeper of this Redis.',
  ),
};

const admin = {
  adminHosts: z.array(z.string().refine(isHostName)).default([]).register(descriptions, {
    group: 'Admin API',
    kind: 'list',
    allowed: 'a list of host names, such as gate.example.com',
    meaning:
      'Further names under which the admin plane is asked, behind a proxy for instance. Addresses, `localhost` and names without a dot always are; any other Host is refused (DNS rebinding).',
  }),
  adminSessionIdleMinutes: integer('Admin API', 30, [1, 1440], 'Minutes after its last request until a session ends.'),
  adminSessionHours: integer('Admin API', 12, [1, 720], 'Hours after its login until a session ends.'),
  adminRequestsPerMinute: integer(
    'Admin API',
    3000,
    [0, 1_000_000],
    'Requests per minute and principal, per process, then 429; 0 sets no limit.',
  ),
};

const capacity = {
  admissionQueueMax: integer(
    'Capacity',
    10_000,
    [1, 1_000_000],
    'Requests waiting for Redis, per worker; more get 503 `overloaded`.',
  ),
  requestsInFlightMax: integer(
    'Capacity',
    20_000,
    [1, 1_000_000],
    'Requests under way at once, per worker; more get 503 `overloaded`.',
  ),
  bodyMemoryMax: integer(
    'Capacity',
    268_435_456,
    [1_048_576, 68_719_476_736],
    'Bytes of request bodies held in memory at once, per worker: signed ones whose digest is not known yet, and uploads that come faster than the upstream takes them. A body beyond gets 503 `overloaded`.',
  ),
  eventLoopLagMaxMs: integer(
    'Capacity',
    1000,
    [0, 60_000],
    'Ms by which the event loop may lag twice in a row before new requests get 503 `overloaded`; 0 sets no limit.',
  ),
  recordCacheMax: integer('Capacity', 50_000, [1, 10_000_000], 'Decoded token records held in memory, per worker.'),
};

/** The schema: strict, every key with its default. Loading goes through load.ts, which adds the sources. */
export const configSchema = z.strictObject({
  ...listeners,
  ...upstream,
  ...redis,
  ...credentials,
  ...callers,
  ...accessLog,
  ...admin,
  ...audit,
  ...capacity,
});

export type ConfigKey = keyof typeof configSchema.shape;

/** Where the policy is; src/policy reads it. */
export type PolicySource =
  | { readonly kind: 'file' /** Absolute. */; readonly path: string }
  | {
      readonly kind: 'inline';
      readonly value: unknown;
      /** The configuration file, as the operator named it. */
      readonly source: string;
      /** Line of `policy:` in that file. */
      readonly line: number;
      /** Line of an element below `policy:`, such as `['routes', 3, 'path']`; of its nearest parent when it is absent. */
      readonly lineOf: (path: readonly (string | number)[]) => number;
    };

/** A checked configuration: paths absolute, defaults filled in, no contradiction. Keys without a default may be absent. */
export type Config = Readonly<Omit<z.output<typeof configSchema>, 'policy'>> & { readonly policy?: PolicySource };

export const configKeys = Object.keys(configSchema.shape) as ConfigKey[];

/** What schema.ts says of a key. */
export function describeKey(key: ConfigKey): KeyDescription {
  return descriptions.get(configSchema.shape[key]) as KeyDescription;
}

/** The default of a key; undefined when it has none. */
export function defaultOf(key: ConfigKey): unknown {
  return configSchema.shape[key].parse(undefined);
}

/** `upstreamTimeoutMs` is `TOLLKEEPER_UPSTREAM_TIMEOUT_MS` in the environment. */
export function environmentName(key: string): string {
  return `TOLLKEEPER_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

/** What a running `serve` takes over on SIGHUP; every other key needs a restart. */
export const reloadableKeys: readonly ConfigKey[] = configKeys.filter((key) => describeKey(key).reloadable === true);

function isOwnHeaderPrefix(value: string): boolean {
  if (!/^[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*-$/.test(value) || value.length > 40) return false;
  // These would take foreign headers for credentials, or remove them on the way to the upstream.
  return !/^(x-|x-forwarded-|x-ratelimit-|x-request-|content-|accept-|sec-|proxy-|if-)$/i.test(value);
}
