/** The client to the upstream by itself, on real sockets: asks, and tells what came back. */
import type { Readable } from 'node:stream';
import { parseUpstreamAddress, type UpstreamAddress } from '../../src/config/formats.js';
import type { Denial } from '../../src/core/problems.js';
import type { ResponseHead } from '../../src/http/response-head.js';
import type { UpstreamCall, UpstreamRequest, UpstreamSink } from '../../src/upstream/call.js';
import type { TlsSettings } from '../../src/upstream/target.js';
import { Upstream, type UpstreamOptions } from '../../src/upstream/upstream.js';

export interface ClientSettings extends Partial<Omit<UpstreamOptions, 'addresses'>> {
  readonly tls?: TlsSettings;
}

/** A client to `addresses` (as in the configuration), patient unless told otherwise. */
export function startClient(addresses: readonly string[], settings: ClientSettings = {}): Upstream {
  return new Upstream({
    addresses: addresses.map((text) => parseUpstreamAddress(text) as UpstreamAddress),
    tls: {},
    connectTimeoutMs: 20_000,
    headTimeoutMs: 20_000,
    idleTimeoutMs: 20_000,
    keepAliveMs: 20_000,
    maxAgeMs: 300_000,
    connectionsMax: 64,
    health: { ejectAfter: 3, ejectMs: 300, path: undefined, intervalMs: 50, timeoutMs: 5000, successes: 2 },
    whenEjected: () => {},
    ...settings,
  });
}

export interface AskOptions {
  readonly method?: string;
  readonly path?: string;
  readonly body?: Buffer | Readable | null;
  /** Of a stream; absent: chunks. */
  readonly bodyLength?: number;
}

/** The request as the data plane would hand it over. */
export function requestOf({ method = 'GET', path = '/', body = null, bodyLength = -1 }: AskOptions): UpstreamRequest {
  const length = Buffer.isBuffer(body) ? body.length : bodyLength;
  const framing = length < 0 ? 'transfer-encoding: chunked\r\n' : `content-length: ${length}\r\n`;
  return {
    head: `${method} ${path} HTTP/1.1\r\nhost: upstream.test\r\n${body === null ? '' : framing}\r\n`,
    toHead: method === 'HEAD',
    body,
    bodyLength: body === null ? 0 : length,
    replayable: method !== 'POST' && (body === null || Buffer.isBuffer(body)),
  };
}

/** What a sink heard. */
export class Listener implements UpstreamSink {
  status = 0;
  fields: readonly string[] = [];
  readonly pieces: Buffer[] = [];
  bytes = 0;
  denial: Denial | undefined;
  isComplete = false;
  /** The sink takes no more from this many bytes on. */
  pauseAt = Number.POSITIVE_INFINITY;
  #wake: (() => void)[] = [];

  upstreamAnswer(head: ResponseHead, body: Buffer): void {
    this.upstreamHead(head);
    if (body.length > 0) this.upstreamChunk(body);
    this.upstreamEnd();
  }

  upstreamHead(head: ResponseHead): void {
    if (this.status !== 0 || this.isOver) throw new Error('a second head');
    this.status = head.status;
    this.fields = head.fields;
    this.#heard();
  }

  upstreamChunk(chunk: Buffer): boolean {
    if (this.isOver) throw new Error('a piece after the end');
    this.pieces.push(Buffer.from(chunk));
    this.bytes += chunk.length;
    this.#heard();
    return this.bytes < this.pauseAt;
  }

  upstreamEnd(): void {
    if (this.isOver) throw new Error('a second end');
    this.isComplete = true;
    this.#heard();
  }

  upstreamFailed(denial: Denial): void {
    if (this.isOver) throw new Error('a failure after the end');
    this.denial = denial;
    this.#heard();
  }

  get isOver(): boolean {
    return this.isComplete || this.denial !== undefined;
  }

  get body(): Buffer {
    return Buffer.concat(this.pieces);
  }

  /** `200 body` of a whole answer, `502 slug` of a failure, `200 cut` where a head had come. */
  get verdict(): string {
    if (this.isComplete) return `${this.status} ${this.body.toString('latin1')}`;
    if (this.denial === undefined) return 'open';
    return this.status === 0 ? `${this.denial.problem.status} ${this.denial.problem.slug}` : `${this.status} cut`;
  }

  /** Answers when `isSo` holds. */
  async until(isSo: () => boolean): Promise<void> {
    while (!isSo()) {
      await new Promise<void>((resolve) => {
        this.#wake.push(resolve);
      });
    }
  }

  #heard(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}

/** Sends a request; the listener hears of it, the call can be aborted. */
export function send(upstream: Upstream, options: AskOptions = {}): { listener: Listener; call: UpstreamCall } {
  const listener = new Listener();
  return { listener, call: upstream.send(requestOf(options), listener) };
}

/** Sends a request and answers the verdict on it. */
export async function ask(upstream: Upstream, options: AskOptions = {}): Promise<string> {
  const { listener } = send(upstream, options);
  await listener.until(() => listener.isOver);
  return listener.verdict;
}
