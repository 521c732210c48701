/** The Redis that holds tokens, tenants, counters and the access log. */
import { z } from 'zod';
import { isRedisUrl, parseAddress } from '../formats.js';
import { descriptions, integer, keyWithout, onOff, path, redisUrlForm, text } from './key.js';

const outageModes = ['deny', 'serve-known'] as const;

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

export const redis = {
  redisUrl: keyWithout(
    text(
      {
        group: 'Redis',
        allowed: redisUrlForm,
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
        allowed: redisUrlForm,
        meaning: 'Another Redis (one server) for the access log; without it the log is kept beside the tokens.',
        example: 'redis://127.0.0.1:6380',
        secret: true,
      },
      isRedisUrl,
    ),
  ),
};
