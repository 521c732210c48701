/** Where Tollkeeper listens, and how many processes do. */
import { z } from 'zod';
import { parseAddress } from '../formats.js';
import { usableCores } from '../usable-cores.js';
import { addressForm, descriptions, hourMs, integer, keyWithDefault, onOff, path, text } from './key.js';

const workersMax = 256;

export const listeners = {
  listen: keyWithDefault(
    '0.0.0.0:8080',
    text(
      {
        group: 'Listeners',
        allowed: `${addressForm}, or off`,
        meaning:
          'Where the data plane listens; port 0 takes a free one. `off` where only the verify plane is asked: `upstream` is not needed then.',
      },
      (value) => value === 'off' || parseAddress(value) !== undefined,
    ),
  ),
  verifyListen: keyWithDefault(
    '127.0.0.1:8081',
    text(
      {
        group: 'Listeners',
        allowed: `${addressForm}, or off`,
        meaning:
          'Where the verify plane listens: nginx, Caddy, HAProxy, Traefik or Envoy ask there whether a request may pass. Only `trustedProxies` are answered.',
      },
      (value) => value === 'off' || parseAddress(value) !== undefined,
    ),
  ),
  adminListen: keyWithDefault(
    '127.0.0.1:9090',
    text(
      {
        group: 'Listeners',
        allowed: addressForm,
        meaning: 'Where the admin plane (`/v1`, `/metrics`, `/healthz`, `/readyz`) listens. Keep it private.',
      },
      (value) => parseAddress(value) !== undefined,
    ),
  ),
  tlsCert: path(
    'Listeners',
    'Certificate chain (PEM): the data plane then serves HTTPS. Needs `tlsKey`.',
    '/etc/tollkeeper/tls.crt',
  ),
  tlsKey: path('Listeners', 'Private key (PEM) of `tlsCert`.', '/etc/tollkeeper/tls.key'),
  workers: z
    .int()
    .min(1)
    .max(workersMax)
    .default(() => Math.min(usableCores(), workersMax))
    .register(descriptions, {
      group: 'Listeners',
      kind: 'integer',
      allowed: `a whole number from 1 to ${workersMax}`,
      meaning:
        'Processes that share the data port, about 100 MB each; beside two or more runs one that watches them. The default heeds the affinity and the CPU quota (cgroup) of the process.',
      example: '4',
      defaultIs: 'the cores it may use',
    }),
  listenShared: onOff(
    'Listeners',
    false,
    'Let other processes listen on the same `listen` and `verifyListen` (SO_REUSEPORT): the next version starts beside this one, then this one drains. Each needs an `adminListen` of its own.',
  ),
  shutdownTimeoutMs: integer(
    'Listeners',
    10_000,
    [0, hourMs],
    'After SIGTERM, ms until requests still running are cut off. Then the access log is written, for at most 10 s more and only as long as Redis takes it.',
  ),
};
