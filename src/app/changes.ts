import type { Redis } from 'ioredis';
import type { DenyCache } from '../admission/deny-cache.js';
import type { OutageLimits } from '../admission/outage.js';
import { changesChannel, keys } from '../redis/keys.js';

/**
 * Follows what other processes announce of tokens and tenants. The deny cache may stand in for Redis only while this
 * process hears of every change; what is known for an outage is forgotten by it.
 */
export function followChanges(redis: Redis, denials: DenyCache, outage: OutageLimits): void {
  const hears = (yes: boolean): void => {
    denials.enabled = yes;
  };
  redis.on('ready', () => {
    redis.subscribe(changesChannel).then(
      () => hears(true),
      () => hears(false),
    );
  });
  redis.on('close', () => hears(false));
  redis.on('message', (_channel: string, subject: string) => {
    const colon = subject.indexOf(':');
    const name = subject.slice(colon + 1);
    if (subject.startsWith('token:')) {
      denials.forgetToken(keys.token(name));
      outage.forget(keys.token(name));
    } else {
      denials.forgetTenant(keys.tenant(name));
      outage.forget(keys.tenant(name));
    }
  });
}
