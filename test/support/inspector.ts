/**
 * The heap of a process, asked by the inspector that Node itself has: started with `NODE_OPTIONS=--inspect=127.0.0.1:0`
 * a process says on standard error where it listens. (Chrome DevTools Protocol, domains HeapProfiler and Runtime.)
 */
import { WebSocket } from 'undici';

export interface HeapUsage {
  /** What is held after a collection, bytes. */
  readonly usedBytes: number;
  /** What V8 has of the system for it. */
  readonly totalBytes: number;
  /** Buffers and other memory outside the heap that objects of it hold. */
  readonly externalBytes: number;
}

/** Addresses of the inspectors of all processes that have printed one, in the order of their coming. */
export function inspectorsIn(output: string): string[] {
  return [...output.matchAll(/^Debugger listening on (ws:\/\/\S+)$/gm)].map(([, url]) => url as string);
}

/** Has the process collect all garbage and answers what it holds then. It does nothing else meanwhile. */
export async function collectGarbage(inspector: string): Promise<HeapUsage> {
  return withSession(inspector, async (ask) => {
    await ask('HeapProfiler.collectGarbage');
    const memory = (await ask('Runtime.evaluate', {
      expression: 'process.memoryUsage()',
      returnByValue: true,
    })) as { result: { value: { heapUsed: number; heapTotal: number; external: number } } };
    const { heapUsed, heapTotal, external } = memory.result.value;
    return { usedBytes: heapUsed, totalBytes: heapTotal, externalBytes: external };
  });
}

type Ask = (method: string, params?: object) => Promise<unknown>;

async function withSession<T>(inspector: string, use: (ask: Ask) => Promise<T>): Promise<T> {
  const socket = new WebSocket(inspector);
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  const opened = new Promise<void>((resolve, reject) => {
    socket.addEventListener('open', () => resolve());
    const end = (): void => {
      const error = new Error(`the inspector at ${inspector} closed the connection`);
      reject(error);
      for (const { reject: rejectOne } of waiting.values()) rejectOne(error);
    };
    socket.addEventListener('error', end);
    socket.addEventListener('close', end);
  });
  socket.addEventListener('message', ({ data }: { data: unknown }) => {
    const { id, result, error } = JSON.parse(String(data)) as {
      id?: number;
      result?: unknown;
      error?: { message: string };
    };
    const asked = id === undefined ? undefined : waiting.get(id);
    if (id === undefined || asked === undefined) return;
    waiting.delete(id);
    if (error === undefined) asked.resolve(result);
    else asked.reject(new Error(error.message));
  });
  await opened;
  let count = 0;
  const ask: Ask = (method, params = {}) =>
    new Promise((resolve, reject) => {
      count += 1;
      waiting.set(count, { resolve, reject });
      socket.send(JSON.stringify({ id: count, method, params }));
    });
  try {
    return await use(ask);
  } finally {
    waiting.clear();
    socket.close();
  }
}
