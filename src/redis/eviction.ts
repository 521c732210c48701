/** Whether Redis may throw records away by itself. */
import { Cluster } from 'ioredis';
import type { RedisConnection } from './target.js';

/**
 * A sentence about the first server that evicts keys when its memory is full, or ''. Asks INFO of every primary; one that
 * does not answer or may not be asked says nothing here.
 */
export async function evictionRisk(redis: RedisConnection): Promise<string> {
  const servers = redis instanceof Cluster ? redis.nodes('master') : [redis];
  for (const server of servers) {
    const info = await server.info('memory').catch(() => '');
    const policy = /^maxmemory_policy:(\S+)/m.exec(info)?.[1] ?? 'noeviction';
    if (policy === 'noeviction' || /^maxmemory:0\r?$/m.test(info)) continue;
    return (
      `Redis evicts keys when its memory is full (maxmemory-policy ${policy}): tokens and marks of used signatures can ` +
      'go that way; set maxmemory-policy noeviction.'
    );
  }
  return '';
}
