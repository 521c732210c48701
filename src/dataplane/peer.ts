/**
 * The address of a socket's peer as text.
 *
 * The binding offers its bytes, or a text that it prints anew for every request. Few addresses come again and again:
 * those of IPv4 are four bytes, a number, and their texts are kept.
 */
import type { HttpResponse } from './binding.js';

const textsMax = 10_000;
const textByAddress = new Map<number, string>();

/** Dotted IPv4 or full IPv6; '' when the peer has no address (a unix socket). */
export function peerOf(res: HttpResponse): string {
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
