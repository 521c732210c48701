/** Load without keep-alive and without retries: every request opens a connection, and every fault is seen. */
import { request } from 'node:http';

export interface FreshFailure {
  readonly caller: number;
  /** Node's error code. */
  readonly code: string;
}

export interface FreshLoad {
  /** Answers by status so far. */
  readonly statuses: Readonly<Record<number, number>>;
  /** Requests that got no whole answer. */
  readonly failures: readonly FreshFailure[];
  /** Resolves when so many more answers have come. */
  more(count: number): Promise<void>;
  /** Ends the load when every request under way has its end. */
  stop(): Promise<void>;
}

/** Sends GETs from `callers` callers, each one after another, until stopped. */
export function freshLoad(url: string, token: string, callers: number): FreshLoad {
  const statuses: Record<number, number> = {};
  const failures: FreshFailure[] = [];
  const waiting = new Set<() => void>();
  let answered = 0;
  let running = true;
  const call = async (caller: number): Promise<void> => {
    while (running) {
      try {
        const status = await freshRequest(url, token);
        statuses[status] = (statuses[status] ?? 0) + 1;
        answered += 1;
      } catch (error) {
        failures.push({ caller, code: (error as NodeJS.ErrnoException).code ?? String(error) });
      }
      for (const check of waiting) check();
    }
  };
  const done = Promise.all(Array.from({ length: callers }, (_, caller) => call(caller)));
  return {
    statuses,
    failures,
    more(count) {
      const target = answered + count;
      return new Promise((resolve) => {
        const check = (): void => {
          if (answered < target) return;
          waiting.delete(check);
          resolve();
        };
        waiting.add(check);
        check();
      });
    },
    async stop() {
      running = false;
      await done;
    },
  };
}

/** One GET on a connection of its own; answers the status, rejects when the answer does not come whole. */
export function freshRequest(url: string, token: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}`, connection: 'close' };
    const sent = request(url, { agent: false, headers }, (answer) => {
      answer.once('error', reject);
      answer.once('end', () => resolve(answer.statusCode ?? 0));
      answer.resume();
    });
    sent.once('error', reject);
    sent.end();
  });
}
