/**
 * A port of the binding: opened alone or shared with other processes (SO_REUSEPORT), and given up without cutting off
 * who is about to connect.
 *
 * Linux resets what waits to be accepted when a listening socket closes, even where other processes listen on its port
 * (unless net.ipv4.tcp_migrate_req is 1). So it is closed right after the queue was emptied. Measured at 1,500 new
 * connections/s a process: one connection is lost in 2 of 100 closes; in 17 to 42 of 100 when it is closed at any time;
 * none with tcp_migrate_req.
 */
import type { HttpApp, HttpBinding } from './binding.js';
import { Peers } from './peer.js';

type ListenSocket = Parameters<HttpBinding['us_listen_socket_close']>[0];

type ListenWithOptions = (
  host: string,
  port: number,
  options: number,
  done: (socket: ListenSocket | false) => void,
) => unknown;

/** A turn of the event loop this short has found the queue of new connections empty just now, ms. */
const quietTurnMs = 0.03;
/** A process that has no such turn closes after this long all the same, ms. */
const quietWithinMs = 50;

export class Port {
  readonly peers = new Peers();
  readonly #binding: HttpBinding;
  readonly #app: HttpApp;
  #socket: ListenSocket | undefined;
  #connections = 0;

  constructor(binding: HttpBinding, app: HttpApp) {
    this.#binding = binding;
    this.#app = app;
    app.filter((res, change) => {
      this.#connections += change;
      // At the end of a connection its address is gone.
      if (change > 0) this.peers.connected(res);
    });
  }

  /** Open connections, idle ones included. */
  get connections(): number {
    return this.#connections;
  }

  /**
   * Opens the port (0: a free one); `exclusive`: no other process may share it.
   * @returns `host:port` with the real port; undefined when the address is taken or not of this machine.
   */
  async open(host: string, port: number, exclusive: boolean): Promise<string | undefined> {
    let socket = await this.#listen(host, port, exclusive);
    if (socket !== undefined && port === 0 && !exclusive) {
      // The binding shares a port only when it is named: take the one that was free a moment ago.
      const found = this.#binding.us_socket_local_port(socket);
      this.#binding.us_listen_socket_close(socket);
      socket = await this.#listen(host, found, false);
    }
    if (socket === undefined) return undefined;
    this.#socket = socket;
    return `${host.includes(':') ? `[${host}]` : host}:${this.#binding.us_socket_local_port(socket)}`;
  }

  /** Takes no new connections; answers when that is so. */
  async stopAccepting(): Promise<void> {
    if (this.#socket === undefined) return;
    await new Promise<void>((resolve) => {
      whenQuiet(() => {
        if (this.#socket !== undefined) this.#binding.us_listen_socket_close(this.#socket);
        this.#socket = undefined;
        resolve();
      });
    });
  }

  /** Closes the port and every connection, idle or not. */
  close(): void {
    this.#socket = undefined;
    this.#app.close();
  }

  async #listen(host: string, port: number, exclusive: boolean): Promise<ListenSocket | undefined> {
    const sharing = exclusive ? this.#binding.LIBUS_LISTEN_EXCLUSIVE_PORT : 0;
    const socket = await new Promise<ListenSocket | false>((resolve) => {
      // The binding takes the options here too; its declarations know them without a host only.
      (this.#app.listen as unknown as ListenWithOptions).call(this.#app, host, port, sharing, resolve);
    });
    return socket || undefined;
  }
}

// oxlint-disable eslint/no-restricted-globals -- no connection is closed from here: only the listening socket, once
/** Calls back at the end of a short turn of the event loop: connections are accepted in the middle of one. */
function whenQuiet(done: () => void): void {
  const startedAtMs = performance.now();
  let beforeMs = Number.NEGATIVE_INFINITY;
  const turn = (): void => {
    const nowMs = performance.now();
    if (nowMs - beforeMs < quietTurnMs || nowMs - startedAtMs > quietWithinMs) return done();
    beforeMs = nowMs;
    setImmediate(turn);
  };
  setImmediate(turn);
}
