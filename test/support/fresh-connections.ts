/** Load without keep-alive and without retries: every request opens a connection, and every fault is seen. */
import { request } from 'node:http';
import { connect } from 'node:net';

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

/** What sends requests: undici's Pool over connections that are kept, {@link FreshConnections} over one for each. */
export interface Requester {
  request(options: {
    readonly method: 'GET' | 'POST' | 'PUT';
    readonly path: string;
    readonly headers: Record<string, string>;
    readonly body: string | Buffer | null;
  }): Promise<{
    readonly statusCode: number;
    readonly headers: Readonly<Record<string, string | string[] | undefined>>;
    readonly body: { text(): Promise<string> };
  }>;
}

/** A connection for each request, without retries, at a quarter of the CPU of Node's client: for thousands a second. */
export class FreshConnections implements Requester {
  readonly #port: number;

  constructor(port: number) {
    this.#port = port;
  }

  /** Rejects when no whole answer came. For requests without a body. */
  request({ method, path, headers }: Parameters<Requester['request']>[0]): ReturnType<Requester['request']> {
    const fields = Object.entries({ ...headers, host: '127.0.0.1', connection: 'close' });
    const head = `${method} ${path} HTTP/1.1\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;
    return new Promise((resolve, reject) => {
      const socket = connect({ port: this.#port, host: '127.0.0.1', noDelay: true });
      let answer = '';
      socket.setEncoding('latin1');
      socket.on('data', (text: string) => {
        answer += text;
      });
      socket.once('error', reject);
      socket.once('close', () => {
        const parsed = wholeAnswer(answer);
        if (parsed === undefined) reject(new Error('the connection ended before the answer did'));
        else resolve(parsed);
      });
      socket.write(head, 'latin1');
    });
  }
}

/** An answer of announced length; undefined when something of it is missing. */
function wholeAnswer(answer: string): Awaited<ReturnType<Requester['request']>> | undefined {
  const headEnd = answer.indexOf('\r\n\r\n');
  if (headEnd < 0) return undefined;
  const [start = '', ...lines] = answer.slice(0, headEnd).split('\r\n');
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  const body = answer.slice(headEnd + 4);
  if (body.length !== Number(headers['content-length'])) return undefined;
  return { statusCode: Number(start.split(' ')[1]), headers, body: { text: () => Promise.resolve(body) } };
}
