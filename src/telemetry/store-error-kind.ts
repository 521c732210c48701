/** What kind of failure an error of Redis or of the way to it is: the label of `tollkeeper_store_errors_total`. */
import type { StoreErrorKind } from './catalogue.js';

/** The kind of an error that a call to Redis was rejected with, by the codes of the server and of ioredis. */
export function storeErrorKind(error: unknown): StoreErrorKind {
  if (!(error instanceof Error)) return 'other';
  if (error.name !== 'ReplyError') {
    if (/timed? ?out/i.test(error.message)) return 'timeout';
    return 'code' in error || /clos|connect|writeable|retries|ended|reset/i.test(error.message)
      ? 'connection'
      : 'other';
  }
  return replyErrorKinds.get(replyErrorCode(error)) ?? 'other';
}

/** `OOM` of `OOM command not allowed …`; a script that is refused whole has its code behind `ERR -`. */
function replyErrorCode(error: Error): string {
  return /^(?:ERR -)?([A-Z]+)\b/.exec(error.message)?.[1] ?? '';
}

const replyErrorKinds: ReadonlyMap<string, StoreErrorKind> = new Map([
  ['OOM', 'out-of-memory'],
  ['LOADING', 'loading'],
  ['BUSY', 'busy'],
  ['READONLY', 'read-only'],
  ['MASTERDOWN', 'replication'],
  ['NOREPLICAS', 'replication'],
  ['MISCONF', 'disk'],
  ['CLUSTERDOWN', 'cluster'],
  ['TRYAGAIN', 'cluster'],
  ['MOVED', 'cluster'],
  ['ASK', 'cluster'],
  ['CROSSSLOT', 'cluster'],
  ['NOAUTH', 'access'],
  ['WRONGPASS', 'access'],
  ['NOPERM', 'access'],
  ['ERR', 'script'],
  ['WRONGTYPE', 'script'],
  ['NOSCRIPT', 'script'],
]);
