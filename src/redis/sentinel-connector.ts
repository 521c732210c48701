/**
 * How ioredis reaches the primary that Sentinels name; in place of its own connector, which asks them one after the
 * other, comes back to the one whose server accepted a connection last, and so never leaves a Sentinel that names a
 * dead server behind something that accepts (a proxy, a frozen host).
 *
 * Algorithm: what most Sentinels name is tried first; each attempt that does not end in a primary moves on to the next
 *   address named. While a connection stands they are asked again and again, and it is cut when more than half name
 *   another address: so it leaves a primary that vanished without a word, or that still answers where it was cut off.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { setTimeout as delay } from 'node:timers/promises';
import { AbstractConnector } from 'ioredis';
import { reconnectDelayMs } from './reconnect.js';
import type { NamedPrimary, Sentinels } from './sentinels.js';
import type { HostPort, SentinelTarget } from './target.js';

/** From the attempt until the server has said that it is the primary, ms. */
const attemptTimeoutMs = 2000;
const watchIntervalMs = 500;

type Emit = Parameters<AbstractConnector['connect']>[0];

/** A class for ioredis' option `Connector`. */
export function sentinelConnector(
  sentinels: Sentinels,
  tls: SentinelTarget['tls'] | undefined,
): new () => AbstractConnector {
  return class SentinelConnector extends AbstractConnector {
    /** Attempts in a row that did not end in a primary. */
    #failures = 0;
    #attempt: NodeJS.Timeout | undefined;

    constructor() {
      super(attemptTimeoutMs);
    }

    /** Called by ioredis with what INFO says; false makes it disconnect and try again. */
    override check(info: { readonly role?: string }): boolean {
      clearTimeout(this.#attempt);
      this.#attempt = undefined;
      // Without the right to INFO there is no role: then the Sentinels are taken at their word.
      const isPrimary = info.role === undefined || info.role === 'master';
      if (isPrimary) this.#failures = 0;
      return isPrimary;
    }

    /** @throws Error when it was disconnected meanwhile. */
    override async connect(emit: Emit): ReturnType<AbstractConnector['connect']> {
      this.connecting = true;
      const address = await this.#find(emit);
      const { host, port } = address;
      const stream = tls === undefined ? connectTcp(port, host) : connectTls({ ...tls, host, port });
      this.stream = stream;
      // Until it is known to be one; `check` says so.
      this.#failures += 1;
      stream.once('error', (error) => {
        this.firstError = error;
      });
      // After a stall of this process the answer may lie unread in the socket: it is read first.
      const expire = (): void => {
        if (this.#attempt === attempt) stream.destroy();
      };
      const attempt = setTimeout(() => setImmediate(expire), attemptTimeoutMs);
      this.#attempt = attempt;
      const watch = watchPrimary(sentinels, address, stream);
      stream.once('close', () => {
        clearTimeout(attempt);
        clearInterval(watch);
      });
      return stream;
    }

    override disconnect(): void {
      // ioredis would wait for the end of a connection that has ended, and the process with it.
      if (this.stream?.destroyed === false) super.disconnect();
      else this.connecting = false;
    }

    async #find(emit: Emit): Promise<HostPort> {
      for (let round = 1; ; round += 1) {
        try {
          const named = await sentinels.ask(this.#failures > 0);
          if (this.connecting) return named[this.#failures % named.length] as NamedPrimary;
        } catch (error) {
          if (this.connecting) emit('error', error as Error);
        }
        if (this.connecting) await delay(reconnectDelayMs(round));
        if (!this.connecting) throw new Error('Connection is closed.');
      }
    }
  };
}

/** Cuts `stream` when more than half of the Sentinels name another address. */
function watchPrimary(sentinels: Sentinels, { host, port }: HostPort, stream: Socket): NodeJS.Timeout {
  const look = async (): Promise<void> => {
    const [named] = await sentinels.ask().catch(() => []);
    if (named?.isAgreed === true && (named.host !== host || named.port !== port)) stream.destroy();
  };
  return setInterval(() => void look(), watchIntervalMs).unref();
}
