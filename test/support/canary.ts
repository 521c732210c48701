/**
 * Secrets that must appear nowhere: each token that a test issues, and the secrets of its configuration. What sidecars
 * print and export, and what Redis holds, is searched for them when they are stopped, in every test of the suite.
 */
import type { Redis } from 'ioredis';

/** Of a long stream the newest entries are looked through. */
const streamEntriesMax = 5000;
const planted = new Map<string, string>();

/** From now on `secret` is looked for; `what` names it in the message. */
export function plantSecret(secret: string, what: string): void {
  if (secret.length >= 16) planted.set(secret, what);
}

/** @throws Error when `text` holds a planted secret; the message says where, and not the secret. */
export function expectNoSecret(text: string, where: string): void {
  for (const [secret, what] of planted) {
    if (text.includes(secret)) throw new Error(`${where} holds ${what}`);
  }
}

/** Looks through everything that a Redis holds. */
export async function expectNoSecretIn(redis: Redis): Promise<void> {
  if (planted.size === 0) return;
  for await (const keys of redis.scanStream({ count: 500 })) {
    for (const key of keys as string[]) {
      expectNoSecret(key, 'the name of a key in Redis');
      expectNoSecret(await textOf(redis, key), `the key ${key} in Redis`);
    }
  }
}

async function textOf(redis: Redis, key: string): Promise<string> {
  switch (await redis.type(key)) {
    case 'string':
      return String(await redis.get(key));
    case 'hash':
      return JSON.stringify(await redis.hgetall(key));
    case 'stream':
      return JSON.stringify(await redis.xrevrange(key, '+', '-', 'COUNT', streamEntriesMax));
    case 'set':
      return JSON.stringify(await redis.smembers(key));
    case 'zset':
      return JSON.stringify(await redis.zrange(key, '0', '-1'));
    case 'list':
      return JSON.stringify(await redis.lrange(key, 0, -1));
    default:
      return '';
  }
}
