import { expect, test } from 'vitest';
import type { HttpResponse } from '../../../src/dataplane/binding.js';
import { Peers } from '../../../src/dataplane/peer.js';

/** What the binding says of a connection's peer, and how often it was asked; no bytes: the peer is gone. */
function response(...bytes: number[]): { res: HttpResponse; asked: () => number } {
  let asked = 0;
  const res = {
    getRemoteAddress: () => {
      asked += 1;
      return Uint8Array.from(bytes).buffer;
    },
    getRemoteAddressAsText: () => new TextEncoder().encode(bytes.length === 0 ? '' : 'text of the binding').buffer,
  };
  return { res: res as unknown as HttpResponse, asked: () => asked };
}

function peersOf(...connections: HttpResponse[]): Peers {
  const peers = new Peers();
  for (const res of connections) peers.connected(res);
  return peers;
}

const proxy = (): HttpResponse => response(10, 0, 0, 1).res;
const stranger = (): HttpResponse => response(10, 0, 0, 2).res;

test('the address of all connections so far is that of every request, and the binding is not asked for it', () => {
  const peers = peersOf(proxy(), proxy());
  const request = response(10, 0, 0, 1);
  expect([peers.addressOf(request.res), request.asked()]).toEqual(['10.0.0.1', 0]);
});

test.each([
  ['another address', stranger],
  ['an IPv6 address', () => response(...Array.from({ length: 16 }, () => 1)).res],
  ['no address any more', () => response().res],
])('once a connection with %s has come, every request is asked for its own, whoever comes later', (_, other) => {
  for (const peers of [peersOf(proxy(), other(), proxy()), peersOf(other(), proxy(), proxy())]) {
    expect([peers.addressOf(stranger()), peers.addressOf(proxy())]).toEqual(['10.0.0.2', '10.0.0.1']);
    expect(peers.addressOf(response().res)).toBe('');
  }
});

test('a peer of IPv6 is named as the binding does it', () => {
  expect(new Peers().addressOf(response(...Array.from({ length: 16 }, () => 1)).res)).toBe('text of the binding');
});
