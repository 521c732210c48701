import { describe, expect, test } from 'vitest';
import { isAddressBlock, isRedisUrl, parseAddress, parseUpstreamAddress } from '../../../src/config/formats.js';
import { parseMasterKeys } from '../../../src/config/master-key.js';
import { nearestName } from '../../../src/config/nearest.js';

describe('addresses', () => {
  test.each([
    ['0.0.0.0:8080', { host: '0.0.0.0', port: 8080 }],
    ['[::1]:0', { host: '::1', port: 0 }],
    ['localhost:65535', { host: 'localhost', port: 65535 }],
  ])('%s is one', (text, address) => {
    expect(parseAddress(text)).toEqual(address);
  });

  test.each([
    '',
    '8080',
    ':8080',
    '::1:80',
    '[::1]',
    '[127.0.0.1]:80',
    'host:65536',
    'host:-1',
    '10.1:80',
    'a b:1',
    'h:1\n',
  ])('%j is none', (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });

  test.each(['10.0.0.0/8', '127.0.0.1', '::1', 'fd00::/8', '::ffff:10.0.0.1'])('%s is a block', (text) => {
    expect(isAddressBlock(text)).toBe(true);
  });

  test.each([
    '',
    '10.0.0.0/33',
    '::/129',
    '10.0.0.0/08',
    '10.0.0.0/',
    '10.0.0/8',
    'fe80::1%eth0',
    'localhost',
    '1.2.3.4/1/2',
  ])('%j is no block', (text) => {
    expect(isAddressBlock(text)).toBe(false);
  });
});

describe('URLs', () => {
  test.each([
    ['http://127.0.0.1:3000', { kind: 'tcp', host: '127.0.0.1', port: 3000, isTls: false }],
    ['https://shop.internal', { kind: 'tcp', host: 'shop.internal', port: 443, isTls: true }],
    ['http://[::1]:80', { kind: 'tcp', host: '::1', port: 80, isTls: false }],
    ['http://shop:3000/', { kind: 'tcp', host: 'shop', port: 3000, isTls: false }],
    ['unix:/run/shop.sock', { kind: 'unix', path: '/run/shop.sock' }],
    ['unix:///run/shop.sock', { kind: 'unix', path: '/run/shop.sock' }],
  ])('%s can be an upstream', (text, expected) => {
    expect(parseUpstreamAddress(text)).toMatchObject(expected);
  });

  test.each([
    '',
    'shop:3000',
    'ftp://shop',
    'http://',
    'http://u@shop',
    'http://shop/api',
    'http://shop?',
    'http://shop#x',
    'http:shop',
    'http://shop:0',
    'unix:',
    'unix:run/shop.sock',
    'unix://run/shop.sock',
    'unix:/a,b',
    `unix:/${'a'.repeat(107)}`,
  ])('%j cannot be an upstream', (text) => {
    expect(parseUpstreamAddress(text)).toBeUndefined();
  });

  test.each(['redis://h', 'redis://u:p@h:6380/2', 'rediss://[::1]:1', 'unix:///run/redis.sock', 'unix:///r?db=3'])(
    '%s is a Redis URL',
    (text) => {
      expect(isRedisUrl(text)).toBe(true);
    },
  );

  test.each([
    '',
    'h:6379',
    'redis://',
    'redis://h/x',
    'redis://h?db=1',
    'redis://h#1',
    'unix://',
    'unix://h/p',
    'unix:///p?x=1',
    'http://h',
  ])('%j is no Redis URL', (text) => {
    expect(isRedisUrl(text)).toBe(false);
  });
});

describe('master keys', () => {
  const one = Buffer.alloc(32, 1);
  const two = Buffer.alloc(32, 2);

  test('base64, base64url without padding and hex say the same', () => {
    for (const encoding of ['base64', 'base64url', 'hex'] as const) {
      expect(parseMasterKeys(one.toString(encoding))).toEqual([{ id: '72cd6e84', key: one }]);
    }
  });

  test('a list keeps its order and its names, so that the first seals', () => {
    expect(parseMasterKeys(`new:${two.toString('base64')}, ${one.toString('hex')}`)).toEqual([
      { id: 'new', key: two },
      { id: '72cd6e84', key: one },
    ]);
  });

  test('the same key under the same id, a short key and an empty entry are refused', () => {
    const text = one.toString('base64');
    for (const bad of [`${text},${text}`, Buffer.alloc(31).toString('base64'), `${text},`, '', `a b:${text}`]) {
      expect(parseMasterKeys(bad)).toBeUndefined();
    }
  });
});

describe('the name that was meant', () => {
  const names = ['upstream', 'redisUrl', 'logRedisUrl', 'TOLLKEEPER_WORKERS'];
  test.each([
    ['Upstream', 'upstream'],
    ['upstraem', 'upstream'],
    ['redis_url', 'redisUrl'],
    ['TOLLKEEPER_WORKER', 'TOLLKEEPER_WORKERS'],
    ['x', undefined],
    ['downstairs', undefined],
  ])('%s: %s', (typed, meant) => {
    expect(nearestName(typed, names)).toBe(meant);
  });
});
