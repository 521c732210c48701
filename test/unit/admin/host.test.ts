import { expect, test } from 'vitest';
import { HostAllowList } from '../../../src/admin/host.js';

const hosts = new HostAllowList(['gate.example.com', 'Admin.Internal']);

test.each([
  undefined,
  '127.0.0.1:9090',
  '10.1.2.3',
  '[::1]:9090',
  '[fd00::7]',
  'localhost',
  'LOCALHOST:9090',
  'x.localhost:1',
  'tollkeeper:9090',
  'gate.example.com:9090',
  'gate.example.com.',
  'admin.internal',
])('no stranger can own it, or it is configured: %s is answered', (host) => {
  expect(hosts.allows(host)).toBe(true);
});

test.each([
  'evil.example.net',
  'evil.example.net:9090',
  '127.0.0.1.evil.example.net',
  'localhost.evil.example.net',
  'xlocalhost.de',
  'example.com',
  'gate.example.com.evil.net',
  '',
  'a b',
  '127.0.0.1:9090@evil.example.net',
  'evil.example.net/127.0.0.1',
])('it could be pointed here by a stranger, or is no host: %j is refused', (host) => {
  expect(hosts.allows(host)).toBe(false);
});
