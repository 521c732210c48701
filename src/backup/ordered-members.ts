import type { RedisConnection } from '../redis/target.js';

/** Members asked for in one step. */
const stepMembers = 500;

/**
 * Every member of a sorted set by score, each once, in constant memory, while others add and take away: what is there
 * from the beginning to the end is seen. (ZSCAN may show one twice.)
 * @throws what the connection says.
 */
export async function* orderedMembers(redis: RedisConnection, key: string): AsyncGenerator<string> {
  let score = '-inf';
  // Members of the last score that were seen: the next step begins with that score again.
  let seen = new Set<string>();
  for (;;) {
    const count = stepMembers + seen.size;
    const reply = await redis.zrange(key, score, '+inf', 'BYSCORE', 'LIMIT', 0, count, 'WITHSCORES');
    let fresh = 0;
    for (let at = 0; at < reply.length; at += 2) {
      const [member, itsScore] = [reply[at] as string, reply[at + 1] as string];
      if (itsScore !== score) {
        score = itsScore;
        seen = new Set();
      }
      if (seen.has(member)) continue;
      seen.add(member);
      fresh += 1;
      yield member;
    }
    if (fresh === 0 || reply.length < count * 2) return;
  }
}
