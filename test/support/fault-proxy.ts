/**
 * A TCP proxy between a client and a server that can fail like a network: swallow a reply, cut the connection, stop
 * passing bytes, pass them late or a few at a time. The server has then done what it was asked, and the client does
 * not know.
 */
import { createServer, connect as connectTcp, type AddressInfo, type Socket } from 'node:net';
import { once } from 'node:events';

/** What is wrong with the network; it holds for connections that stand and for new ones. */
export type NetworkFault =
  | { readonly kind: 'none' }
  /** Every piece of an answer comes this much later. */
  | { readonly kind: 'latency'; readonly ms: number }
  /** Answers pass at most this fast, a few bytes at a time. */
  | { readonly kind: 'slow'; readonly bytesPerSecond: number }
  /** Half open: connections stand and are accepted, and nothing passes in either direction until it is over. */
  | { readonly kind: 'stalled' }
  /** Every connection is reset, a new one as soon as it was accepted. */
  | { readonly kind: 'reset' }
  /** Each connection is reset when the server has answered so many bytes on it from now on. */
  | { readonly kind: 'cut-after'; readonly bytes: number }
  /** Each request reaches the server whole, and the connection is reset before anything of its answer passes. */
  | { readonly kind: 'cut-after-request' };

export interface FaultProxy {
  /** Loopback port to connect to instead of the server's. */
  readonly port: number;
  /** Replies that were swallowed so far. */
  readonly swallowed: number;
  /** Connections that stand. */
  readonly connections: number;
  /**
   * For the next `count` times that the server answers: drop the answer and cut the connection. Only answers to
   * requests that contain `marker` count, so that a handshake passes.
   */
  swallowReplies(count: number, marker: string): void;
  fail(fault: NetworkFault): void;
  /**
   * Forgets the connections that stand, like a firewall that lost its state: on them nothing passes any more, for ever
   * and in silence. New ones work.
   */
  forget(): void;
  stop(): Promise<void>;
}

const slowStepMs = 20;

/** One connection: its two sockets and what is on its way back. */
class Link {
  readonly #downstream: Socket;
  readonly #upstream: Socket;
  #fault: NetworkFault;
  #answeredBytes = 0;
  /** Answers that pass a few bytes at a time. */
  #held: Buffer[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(downstream: Socket, upstream: Socket, fault: NetworkFault) {
    this.#downstream = downstream;
    this.#upstream = upstream;
    this.#fault = fault;
    this.follow(fault);
  }

  follow(fault: NetworkFault): void {
    this.#fault = fault;
    this.#answeredBytes = 0;
    for (const socket of [this.#downstream, this.#upstream]) {
      if (fault.kind === 'stalled') socket.pause();
      else socket.resume();
    }
    if (fault.kind === 'reset') this.reset();
    if (fault.kind !== 'slow' && this.#held.length > 0) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      for (const chunk of this.#held.splice(0)) this.#downstream.write(chunk);
    }
  }

  reset(): void {
    this.#downstream.resetAndDestroy();
    this.#upstream.destroy();
  }

  request(chunk: Buffer): void {
    this.#upstream.write(chunk);
  }

  answer(chunk: Buffer): void {
    const fault = this.#fault;
    switch (fault.kind) {
      case 'latency':
        setTimeout(() => this.#downstream.write(chunk), fault.ms);
        return;
      case 'slow':
        this.#held.push(chunk);
        this.#trickle(Math.max(1, Math.round((fault.bytesPerSecond * slowStepMs) / 1000)));
        return;
      case 'cut-after-request':
        this.reset();
        return;
      case 'cut-after': {
        const rest = fault.bytes - this.#answeredBytes;
        this.#answeredBytes += chunk.length;
        if (chunk.length < rest) this.#downstream.write(chunk);
        else this.#downstream.write(chunk.subarray(0, Math.max(0, rest)), () => this.reset());
        return;
      }
      case 'none':
      case 'stalled':
      case 'reset':
        this.#downstream.write(chunk);
    }
  }

  #trickle(stepBytes: number): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const next = Buffer.concat(this.#held.splice(0));
      this.#downstream.write(next.subarray(0, stepBytes));
      if (next.length <= stepBytes) return;
      this.#held.push(next.subarray(stepBytes));
      this.#trickle(stepBytes);
    }, slowStepMs);
  }
}

/** Starts a proxy before a server on a loopback port (`port`) or a unix socket (`path`). */
export async function startFaultProxy(target: { port: number } | { path: string }): Promise<FaultProxy> {
  const links = new Set<Link>();
  const sockets = new Set<Socket>();
  let fault: NetworkFault = { kind: 'none' };
  let toSwallow = 0;
  let wanted = '';
  let swallowed = 0;

  const server = createServer((downstream) => {
    downstream.on('error', () => {}); // 'close' follows
    if (fault.kind === 'reset') {
      downstream.resetAndDestroy();
      return;
    }
    const upstream = 'path' in target ? connectTcp(target.path) : connectTcp(target.port, '127.0.0.1');
    const link = new Link(downstream, upstream, fault);
    links.add(link);
    let armed = false;
    const cut = (): void => {
      links.delete(link);
      downstream.destroy();
      upstream.destroy();
    };
    for (const socket of [downstream, upstream]) {
      sockets.add(socket);
      socket.on('error', cut);
      socket.on('close', () => {
        sockets.delete(socket);
        cut();
      });
    }
    downstream.on('data', (chunk: Buffer) => {
      if (toSwallow > 0 && chunk.includes(wanted)) armed = true;
      link.request(chunk);
    });
    upstream.on('data', (chunk: Buffer) => {
      if (!armed || toSwallow === 0) {
        link.answer(chunk);
        return;
      }
      toSwallow -= 1;
      swallowed += 1;
      cut();
    });
    // A listener for data starts the flow.
    link.follow(fault);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  return {
    port: (server.address() as AddressInfo).port,
    get swallowed() {
      return swallowed;
    },
    get connections() {
      return links.size;
    },
    swallowReplies(count, marker) {
      toSwallow = count;
      wanted = marker;
    },
    fail(next) {
      fault = next;
      for (const link of links) link.follow(next);
    },
    forget() {
      for (const link of links) link.follow({ kind: 'stalled' });
      links.clear();
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      if (!server.listening) return;
      server.close();
      await once(server, 'close');
    },
  };
}
