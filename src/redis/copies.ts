/**
 * Whether the writes of a connection are where they outlive what may fail: in every replica in service, and in the
 * append-only file.
 *
 * Algorithm: WAIT for the replicas. Then WAITAOF where the server has one (7.2) and fsyncs: power may fail. Else until
 *   the file has grown by all that the server held back when it was first asked: its process may be killed. With
 *   `appendfsync everysec` it answers first and writes up to 2 s later, while an fsync is under way (flushAppendOnlyFile).
 */
import type { Redis } from 'ioredis';
import { setTimeout as delay } from 'node:timers/promises';

export interface CopiesWanted {
  /** Replicas that must have the writes, besides all that are in service. */
  readonly replicasMin: number;
  /** For the replicas, ms; the file has 2 s more. */
  readonly timeoutMs: number;
}

/** How long `appendfsync everysec` may hold back a write, and a little more, ms. */
const heldBackMaxMs = 2000;
const lookEveryMs = 20;

/** Waits for the copies of all that was written on `redis`; answers what is missing, or null. */
export async function missingCopies(redis: Redis, { replicasMin, timeoutMs }: CopiesWanted): Promise<string | null> {
  const state = await serverState(redis);
  const needed = Math.max(replicasMin, state.replicasOnline);
  if (needed > 0) {
    const reached = await redis.wait(needed, timeoutMs);
    if (reached < needed) return `${reached} of ${needed} replicas had it after ${timeoutMs} ms`;
  }
  if (!state.aofEnabled) return null;
  if (!state.hasWaitAof || !(await fsyncs(redis))) {
    return (await isInFile(redis, state, timeoutMs + heldBackMaxMs)) ? null : 'it is not yet in the append-only file';
  }
  // With `appendfsync everysec` the next fsync is up to a second away.
  const reply = await redis.call('WAITAOF', '1', '0', String(timeoutMs + 800));
  return Array.isArray(reply) && Number(reply[0]) >= 1 ? null : 'it is not yet on disk';
}

/** `appendfsync no` leaves the time of writing to the kernel: there is nothing to wait for. */
async function fsyncs(redis: Redis): Promise<boolean> {
  // Managed servers forbid CONFIG; the default is everysec.
  const reply = await redis.config('GET', 'appendfsync').catch(() => []);
  return !(Array.isArray(reply) && reply[1] === 'no');
}

/** Waits until the file holds all that the server had taken when it said `state`. */
async function isInFile(redis: Redis, state: ServerState, timeoutMs: number): Promise<boolean> {
  const deadlineMs = performance.now() + timeoutMs;
  let wantedBytes = state.aofBytes + state.aofHeldBytes;
  for (let seen = state; seen.aofHeldBytes > 0 && seen.aofBytes < wantedBytes; ) {
    if (performance.now() > deadlineMs) return false;
    await delay(lookEveryMs);
    const now = await serverState(redis);
    // The file was rewritten and is a shorter one: what is held back by now includes ours, if it still is.
    if (now.aofBytes < seen.aofBytes) wantedBytes = now.aofBytes + now.aofHeldBytes;
    seen = now;
  }
  return true;
}

interface ServerState {
  readonly replicasOnline: number;
  readonly aofEnabled: boolean;
  readonly hasWaitAof: boolean;
  /** Size of the append-only file, and what is still to be written to it; 0 of a server that does not say. */
  readonly aofBytes: number;
  readonly aofHeldBytes: number;
}

async function serverState(redis: Redis): Promise<ServerState> {
  return parseServerState(String(await redis.call('INFO', 'server', 'replication', 'persistence')));
}

/** What INFO says of copies. A replica that is still receiving its first copy can confirm nothing and is not counted. */
export function parseServerState(info: string): ServerState {
  const [, major = '0', minor = '0'] = /^redis_version:(\d+)\.(\d+)/m.exec(info) ?? [];
  return {
    replicasOnline: info.match(/^slave\d+:.*\bstate=online\b/gm)?.length ?? 0,
    aofEnabled: /^aof_enabled:1/m.test(info),
    hasWaitAof: Number(major) > 7 || (Number(major) === 7 && Number(minor) >= 2),
    aofBytes: Number(/^aof_current_size:(\d+)/m.exec(info)?.[1] ?? 0),
    aofHeldBytes: Number(/^aof_buffer_length:(\d+)/m.exec(info)?.[1] ?? 0),
  };
}
