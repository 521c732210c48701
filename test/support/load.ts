/** Many requests at once over keep-alive connections: enough to make sidecars race each other. */
import { Pool } from 'undici';

export interface LoadAnswer {
  readonly status: number;
  /** performance.now() when the request was handed to the client, and when its answer was complete. */
  readonly startedAtMs: number;
  readonly endedAtMs: number;
}

/** Opens a pool to a data plane; close it with `close()`. */
export function clientPool(url: string, connections: number): Pool {
  return new Pool(url, { connections, pipelining: 1 });
}

/** Sends one GET and reads its answer. */
export async function hit(pool: Pool, path: string, token: string): Promise<LoadAnswer> {
  const startedAtMs = performance.now();
  const { statusCode, body } = await pool.request({
    method: 'GET',
    path,
    headers: { authorization: `Bearer ${token}` },
  });
  await body.dump();
  return { status: statusCode, startedAtMs, endedAtMs: performance.now() };
}

/** Sends `count` requests spread over the pools, all handed over before the first answer. */
export function burst(pools: readonly Pool[], count: number, path: string, token: string): Promise<LoadAnswer[]> {
  return Promise.all(Array.from({ length: count }, (_, at) => hit(pools[at % pools.length] as Pool, path, token)));
}
