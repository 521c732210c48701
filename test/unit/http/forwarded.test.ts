import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isAddressRange } from '../../../src/http/address.js';
import { AddressList, failureBucket, TrustedProxies } from '../../../src/http/forwarded.js';

const nobody = new TrustedProxies([]);
const proxies = new TrustedProxies(['10.0.0.0/8', '2001:db8::/32', '192.0.2.7']);

describe('TrustedProxies.clientAddress', () => {
  it('is the socket address, whatever is claimed, when no proxy is configured', () => {
    for (const claim of ['', '127.0.0.1', '127.0.0.1, 10.0.0.1', 'x']) {
      expect(nobody.clientAddress('203.0.113.9', claim)).toBe('203.0.113.9');
    }
  });

  it('is the socket address when the peer is not a configured proxy', () => {
    expect(proxies.clientAddress('203.0.113.9', '127.0.0.1')).toBe('203.0.113.9');
  });

  it.each([
    ['198.51.100.1', '198.51.100.1'],
    ['198.51.100.1, 10.1.1.1', '198.51.100.1'],
    ['127.0.0.1, 198.51.100.1', '198.51.100.1'],
    ['127.0.0.1,198.51.100.1\t, 10.1.1.1 ,192.0.2.7', '198.51.100.1'],
    ['2001:DB9:0:0::1', '2001:db9::1'],
    ['::ffff:198.51.100.1, 2001:db8::5', '198.51.100.1'],
    ['198.51.100.1:4711', '198.51.100.1'],
    ['[2001:db9::1]:4711, 10.0.0.2', '2001:db9::1'],
    ['[2001:db9::1]', '2001:db9::1'],
  ])('believes of "%s" from a proxy the right-most hop that is none', (forwardedFor, client) => {
    expect(proxies.clientAddress('10.0.0.1', forwardedFor)).toBe(client);
  });

  it.each([
    ['', '10.0.0.1'],
    ['unknown', '10.0.0.1'],
    ['198.51.100.1, ', '10.0.0.1'],
    ['198.51.100.1, unknown', '10.0.0.1'],
    ['198.51.100.1, _hidden, 10.0.0.2', '10.0.0.2'],
    ['198.51.100.1:port, 10.0.0.2', '10.0.0.2'],
    ['010.0.0.9, 10.0.0.2', '10.0.0.2'],
    ['127.1, 10.0.0.2', '10.0.0.2'],
    ['fe80::1%eth0, 10.0.0.2', '10.0.0.2'],
    ['[::1, 10.0.0.2', '10.0.0.2'],
    ['[]:80, 10.0.0.2', '10.0.0.2'],
    [',,,', '10.0.0.1'],
  ])('stops at the last good hop of "%s"', (forwardedFor, client) => {
    expect(proxies.clientAddress('10.0.0.1', forwardedFor)).toBe(client);
  });

  it('is the left-most hop when all are proxies', () => {
    expect(proxies.clientAddress('10.0.0.1', '10.0.0.3, 10.0.0.2')).toBe('10.0.0.3');
  });

  it('cannot be moved by anything to the left of the first hop that is no proxy', () => {
    fc.assert(
      fc.property(fc.string(), (claim) => {
        expect(proxies.clientAddress('10.0.0.1', `${claim}, 198.51.100.1, 10.0.0.2`)).toBe('198.51.100.1');
      }),
    );
  });

  it('never throws, and answers an address of the socket or the list', () => {
    fc.assert(
      fc.property(fc.string(), fc.string({ maxLength: 60 }), (peer, forwardedFor) => {
        expect(typeof proxies.clientAddress(peer, forwardedFor)).toBe('string');
        expect(proxies.clientAddress('10.0.0.1', forwardedFor)).not.toBe('');
      }),
    );
  });

  it('gives one spelling to one client, however the socket reports it', () => {
    for (const peer of ['127.0.0.1', '::ffff:127.0.0.1', '0000:0000:0000:0000:0000:ffff:7f00:0001']) {
      expect(nobody.clientAddress(peer, '')).toBe('127.0.0.1');
    }
    expect(nobody.clientAddress('2001:0db8:0000:0000:0000:0000:0000:0001', '')).toBe('2001:db8::1');
    expect(nobody.clientAddress('', '')).toBe('');
  });
});

describe('TrustedProxies.scheme and host', () => {
  it('are the socket’s own when the peer is no proxy', () => {
    expect(proxies.scheme('203.0.113.9', 'https', 'http')).toBe('http');
    expect(proxies.host('203.0.113.9', 'admin.internal', 'shop.test')).toBe('shop.test');
  });

  it('are what a proxy says', () => {
    expect(proxies.scheme('10.0.0.1', 'HTTPS', 'http')).toBe('https');
    expect(proxies.scheme('10.0.0.1', 'http', 'https')).toBe('http');
    expect(proxies.scheme('10.0.0.1', '', 'https')).toBe('https');
    expect(proxies.host('10.0.0.1', 'acme.example.com', 'internal')).toBe('acme.example.com');
    expect(proxies.host('10.0.0.1', '', 'internal')).toBe('internal');
  });

  it('never take a doubtful scheme for a safe one, nor a malformed host', () => {
    for (const doubtful of ['https, http', 'http,https', 'https,https', 'https ', 'wss', 'ht\u212Aps']) {
      expect(proxies.scheme('10.0.0.1', doubtful, 'https')).toBe('http');
    }
    expect(proxies.host('10.0.0.1', 'a.test, b.test', 'internal')).toBe('internal');
  });

  it('refuse a list with an entry that is no address', () => {
    expect(() => new TrustedProxies(['10.0.0.0/8', 'proxy.internal'])).toThrow(
      '"proxy.internal" is neither an IP address nor a CIDR range',
    );
  });
});

describe('AddressList', () => {
  const list = new AddressList();

  it.each([
    ['10.1.2.3', ['10.0.0.0/8'], true],
    ['11.1.2.3', ['10.0.0.0/8'], false],
    ['10.1.2.3', ['10.1.2.3'], true],
    ['10.1.2.4', ['10.1.2.3'], false],
    ['10.1.2.3', ['10.9.9.9/8'], true],
    ['::ffff:10.1.2.3', ['10.0.0.0/8'], true],
    ['10.1.2.3', ['::ffff:10.0.0.0/104'], true],
    ['255.255.255.255', ['0.0.0.0/0'], true],
    ['203.0.113.9', ['::/0'], false],
    ['2001:db8::1', ['0.0.0.0/0'], false],
    ['2001:db8::1', ['::/0'], true],
    ['2001:db8:ffff::1', ['2001:db8::/32'], true],
    ['2001:db9::1', ['2001:db8::/32'], false],
    ['2001:db8::7f', ['2001:db8::/121'], true],
    ['2001:db8::80', ['2001:db8::/121'], false],
    ['10.1.2.3', ['192.0.2.0/24', '10.1.2.0/30'], true],
    ['10.1.2.3', [], false],
    ['', ['0.0.0.0/0'], false],
    ['127.1', ['127.0.0.0/8'], false],
    ['010.0.0.1', ['8.0.0.0/8', '10.0.0.0/8'], false],
  ] as const)('%s in %j: %s', (address, entries, expected) => {
    expect(list.includes(entries, address)).toBe(expected);
  });

  it('admits nobody by a damaged list', () => {
    expect(list.includes(['0.0.0.0/0', 'x'], '10.0.0.1')).toBe(false);
  });

  it('agrees with arithmetic on random IPv4 ranges', () => {
    const address = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255));
    fc.assert(
      fc.property(address, address, fc.nat(32), (a, b, bits) => {
        const number = (parts: readonly number[]) => parts.reduce((sum, part) => sum * 256 + part, 0);
        const expected = Math.floor(number(a) / 2 ** (32 - bits)) === Math.floor(number(b) / 2 ** (32 - bits));
        expect(list.includes([`${b.join('.')}/${bits}`], a.join('.'))).toBe(expected);
      }),
      { numRuns: 1000 },
    );
  });

  it('agrees with arithmetic on random IPv6 ranges', () => {
    // Beginning with 2xxx, so that no address is an IPv4-mapped one.
    const address = fc.tuple(
      fc.integer({ min: 0x2000, max: 0x2fff }),
      ...Array.from({ length: 7 }, () => fc.nat(0xffff)),
    );
    fc.assert(
      fc.property(address, address, fc.nat(128), fc.nat(8), (a, b, bits, shared) => {
        const near = [...a.slice(0, shared), ...b.slice(shared)];
        const text = (parts: readonly number[]) => parts.map((part) => part.toString(16)).join(':');
        const number = (parts: readonly number[]) => parts.reduce((sum, part) => (sum << 16n) | BigInt(part), 0n);
        const drop = BigInt(128 - bits);
        expect(list.includes([`${text(near)}/${bits}`], text(a))).toBe(number(a) >> drop === number(near) >> drop);
      }),
      { numRuns: 1000 },
    );
  });
});

describe('isAddressRange', () => {
  it('takes addresses and CIDR ranges in full notation only', () => {
    for (const entry of ['10.0.0.1', '10.0.0.0/8', '0.0.0.0/0', '::1', '2001:db8::/32', '::/0', '::ffff:1.2.3.4/128']) {
      expect([entry, isAddressRange(entry)]).toEqual([entry, true]);
    }
    for (const entry of [
      '',
      '10',
      '10.0/8',
      '10.0.0.0/33',
      '10.0.0.0/',
      '10.0.0.0/08',
      '10.0.0.0/8/8',
      '::/129',
      '::1/-1',
      'a',
      'fe80::1%1',
      ' 10.0.0.1',
    ]) {
      expect([entry, isAddressRange(entry)]).toEqual([entry, false]);
    }
  });
});

describe('failureBucket', () => {
  it('is the address for IPv4 and the /64 for IPv6', () => {
    expect(failureBucket('203.0.113.9')).toBe('203.0.113.9');
    expect(failureBucket('::ffff:203.0.113.9')).toBe('203.0.113.9');
    expect(failureBucket('2001:db8:1:2:3:4:5:6')).toBe('2001:db8:1:2::/64');
    expect(failureBucket('2001:db8:1:2::')).toBe('2001:db8:1:2::/64');
    expect(failureBucket('nonsense')).toBe('');
  });
});
