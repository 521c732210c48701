import { isQuota, type Limit } from '../admission/limit.js';

/** A limit for a table: `60 in 60 s (sliding-window)`, `100000 a month`. */
export function limitText(limit: Limit): string {
  if (isQuota(limit)) return `${limit.limit} a ${limit.period}`;
  const burst = limit.burst === undefined ? '' : `, burst ${limit.burst}`;
  return `${limit.limit} in ${limit.window} s (${limit.algorithm}${burst})`;
}
