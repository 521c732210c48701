/**
 * A look into processes by the inspector that Node itself has: started with `NODE_OPTIONS=--inspect=127.0.0.1:0` each
 * says on standard error where it listens. (Chrome DevTools Protocol, domains HeapProfiler and Runtime.)
 */
import { WebSocket } from 'undici';

export interface HeapUsage {
  /** What is held after a collection, bytes. */
  readonly usedBytes: number;
  /** What V8 has of the system for it, bytes. */
  readonly totalBytes: number;
}

export interface Inspector {
  readonly pid: number;
  /** Has the process collect all garbage and answers what it holds then. It does nothing else meanwhile. */
  collectGarbage(): Promise<HeapUsage>;
  /** The value of an expression in the process. It is carried as JSON. */
  evaluate(expression: string): Promise<unknown>;
  close(): void;
}

/** Addresses of the inspectors of all processes that have printed one, in the order of their coming. */
export function inspectorsIn(output: string): string[] {
  return [...output.matchAll(/^Debugger listening on (ws:\/\/\S+)$/gm)].map(([, url]) => url as string);
}

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/** @throws Error when nobody listens there. */
export async function openInspector(url: string): Promise<Inspector> {
  const socket = new WebSocket(url);
  const waiting = new Map<number, Waiting>();
  await new Promise<void>((resolve, reject) => {
    socket.addEventListener('open', () => resolve());
    const end = (): void => {
      const error = new Error(`the inspector at ${url} has ended the connection`);
      reject(error);
      for (const { reject: rejectOne } of waiting.values()) rejectOne(error);
      waiting.clear();
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
  let count = 0;
  const ask = (method: string, params: object = {}): Promise<unknown> =>
    new Promise((resolve, reject) => {
      count += 1;
      waiting.set(count, { resolve, reject });
      socket.send(JSON.stringify({ id: count, method, params }));
    });
  const evaluate = async (expression: string): Promise<unknown> => {
    const { result, exceptionDetails } = (await ask('Runtime.evaluate', { expression, returnByValue: true })) as {
      result: { value?: unknown };
      exceptionDetails?: { text: string };
    };
    if (exceptionDetails !== undefined) throw new Error(`${expression}: ${exceptionDetails.text}`);
    return result.value;
  };
  return {
    pid: Number(await evaluate('process.pid')),
    evaluate,
    async collectGarbage() {
      await ask('HeapProfiler.collectGarbage');
      const { heapUsed, heapTotal } = (await evaluate('process.memoryUsage()')) as Record<string, number>;
      return { usedBytes: heapUsed ?? 0, totalBytes: heapTotal ?? 0 };
    },
    close: () => socket.close(),
  };
}
