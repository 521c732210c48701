/**
 * Asks Sentinels where the primary is. All are asked at once, on connections that stay, and the address that most of
 * them name comes first: one Sentinel alone may name a dead server for as long as that is away. (The one that led a
 * failover does, when the server it promoted dies before the failover is over: Redis' sentinelFailoverDetectEnd waits
 * for that server, and GET-MASTER-ADDR-BY-NAME names it meanwhile.)
 */
import { Redis } from 'ioredis';
import { reconnectDelayMs } from './reconnect.js';
import type { HostPort, SentinelTarget } from './target.js';

/** A Sentinel that does not answer in this time has no say, ms. */
const answerTimeoutMs = 1000;

/** What Sentinels name. */
export interface NamedPrimary extends HostPort {
  /** How many name it. */
  readonly votes: number;
  /** More than half of all Sentinels name it. */
  readonly isAgreed: boolean;
}

export class Sentinels {
  readonly #name: string;
  readonly #clients: readonly Redis[];
  #isClosed = false;

  /** Connects in the background. */
  constructor(target: SentinelTarget) {
    this.#name = target.name;
    this.#clients = target.sentinels.map(({ host, port }) => {
      const client = new Redis({
        host,
        port,
        ...(target.sentinelUsername === undefined ? {} : { username: target.sentinelUsername }),
        ...(target.sentinelPassword === undefined ? {} : { password: target.sentinelPassword }),
        ...(target.useTls ? { tls: { ...target.tls } } : {}),
        connectTimeout: answerTimeoutMs,
        commandTimeout: answerTimeoutMs,
        // One that is frozen would gather questions for ever.
        socketTimeout: 3 * answerTimeoutMs,
        maxRetriesPerRequest: 0,
        enableReadyCheck: false,
        retryStrategy: reconnectDelayMs,
        // How long a process that ends waits for one that does not answer, ms.
        disconnectTimeout: 200,
      });
      // What is wrong is told by the question that it fails.
      client.on('error', () => {});
      return client;
    });
  }

  /**
   * The addresses they name, by the number of those who name it. Answers as soon as more than half agree, or
   * `wantsAll`: when each has answered or had its time.
   * @throws Error with what the last of them failed with, when none names any.
   */
  ask(wantsAll = false): Promise<readonly NamedPrimary[]> {
    return new Promise((resolve, reject) => {
      const votes = new Map<string, number>();
      let pending = this.#clients.length;
      let lastError = new Error(`they know none "${this.#name}"`);
      const heard = (): void => {
        pending -= 1;
        const named = [...votes].map(([name, count]) => this.#namedPrimary(name, count));
        if (pending > 0 && (wantsAll || !named.some(({ isAgreed }) => isAgreed))) return;
        if (named.length > 0) resolve(named.toSorted((one, other) => other.votes - one.votes));
        else reject(new Error(`No Sentinel names a primary: ${lastError.message}`, { cause: lastError }));
      };
      for (const client of this.#clients) {
        client.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', this.#name).then(
          (reply) => {
            if (Array.isArray(reply)) {
              const name = `${String(reply[1])} ${String(reply[0])}`;
              votes.set(name, (votes.get(name) ?? 0) + 1);
            }
            heard();
          },
          (error: Error) => {
            lastError = error;
            heard();
          },
        );
      }
    });
  }

  #namedPrimary(name: string, votes: number): NamedPrimary {
    const [port = '', host = ''] = name.split(' ');
    return { host, port: Number(port), votes, isAgreed: votes > this.#clients.length / 2 };
  }

  /** Ends the connections; a question that is under way fails. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const client of this.#clients) client.disconnect();
  }
}
