/**
 * The address of a socket's peer as text.
 *
 * The binding knows it by a system call a request (`getpeername`), and hands it over in an ArrayBuffer of its own: 5% of
 * what a request to the verify plane costs. It knows no name for a connection by which the address could be kept. But a
 * sidecar behind one proxy has one peer for ever: as long as every connection that a port has taken came from one address,
 * that is the address of them all, and nobody is asked. Whether one has is not forgotten when it closes: whose word is
 * believed hangs on the address, so nothing here rests on counting ends.
 *
 * The bytes of the other addresses are looked up: few come again and again, those of IPv4 are a number, and their texts
 * are kept.
 */
import type { HttpResponse } from './binding.js';

const textsMax = 10_000;
const textByAddress = new Map<number, string>();

/** The peers of one port. */
export class Peers {
  /** Of all connections so far; undefined before the first, and once there were two. */
  #only: string | undefined;
  #areSeveral = false;

  /** Call it with every new connection, before its first request. */
  connected(res: HttpResponse): void {
    if (this.#areSeveral) return;
    const address = addressOf(res);
    this.#areSeveral = this.#only !== undefined && this.#only !== address;
    this.#only = this.#areSeveral ? undefined : address;
  }

  /** Of the one who sent a request: dotted IPv4 or full IPv6; '' when the peer has no address, or no longer one. */
  addressOf(res: HttpResponse): string {
    return this.#only ?? addressOf(res);
  }
}

function addressOf(res: HttpResponse): string {
  const bytes = new Uint8Array(res.getRemoteAddress());
  if (bytes.length !== 4) return Buffer.from(res.getRemoteAddressAsText()).toString('latin1');
  const address = numberOf(bytes);
  let text = textByAddress.get(address);
  if (text === undefined) {
    if (textByAddress.size === textsMax) textByAddress.clear();
    text = bytes.join('.');
    textByAddress.set(address, text);
  }
  return text;
}

function numberOf(bytes: Uint8Array): number {
  return (
    (((bytes[0] as number) << 24) |
      ((bytes[1] as number) << 16) |
      ((bytes[2] as number) << 8) |
      (bytes[3] as number)) >>>
    0
  );
}
