/** The HTTP API behind Tollkeeper. */
import { z } from 'zod';
import { isHostName, parseUpstreamAddress } from '../formats.js';
import { descriptions, hourMs, integer, keyWithout, path, text } from './key.js';

export const upstream = {
  upstream: z
    .array(z.string().refine((value) => parseUpstreamAddress(value) !== undefined))
    .min(1)
    .optional()
    .register(descriptions, {
      group: 'Upstream',
      kind: 'list',
      allowed:
        'http://host[:port], https://host[:port] or unix:/path/of/socket, or a list of them, without path, query or password',
      meaning:
        'The HTTP API behind Tollkeeper, at one address or several that are equal. Requests go to the one with the fewest under way. `serve` needs it.',
      example: 'http://127.0.0.1:3000',
      mayStandAlone: true,
    }),
  upstreamConnectTimeoutMs: integer('Upstream', 2000, [1, hourMs], 'Ms until a connection must stand, else 502.'),
  upstreamTimeoutMs: integer(
    'Upstream',
    30_000,
    [1, hourMs],
    'Ms until the head of the answer must be there, else 504.',
  ),
  upstreamIdleTimeoutMs: integer(
    'Upstream',
    60_000,
    [1, hourMs],
    'Ms that may pass between two pieces of a body, else the answer is cut off.',
  ),
  upstreamConnectionsMax: integer('Upstream', 256, [1, 65_535], 'Connections to each upstream address, per worker.'),
  upstreamKeepAliveMs: integer(
    'Upstream',
    4000,
    [0, hourMs],
    'Ms that a connection may wait for its next request; keep it below what the upstream allows (Node 5 s, nginx 75 s).',
  ),
  upstreamConnectionMaxAgeMs: integer(
    'Upstream',
    300_000,
    [1, 24 * hourMs],
    'Ms after which a connection takes no further request, so that a changed DNS record is followed.',
  ),
  upstreamTlsCa: path(
    'Upstream',
    'Certificates (PEM) to trust for `https://`, instead of the system’s.',
    '/etc/tollkeeper/upstream-ca.crt',
  ),
  upstreamTlsCert: path(
    'Upstream',
    'Client certificate (PEM) for `https://`: the upstream can then refuse everybody else. Needs `upstreamTlsKey`.',
    '/etc/tollkeeper/upstream.crt',
  ),
  upstreamTlsKey: path('Upstream', 'Private key (PEM) of `upstreamTlsCert`.', '/etc/tollkeeper/upstream.key'),
  upstreamTlsName: keyWithout(
    text(
      {
        group: 'Upstream',
        allowed: 'a host name, such as api.internal',
        meaning: 'Name that the certificate of every `https://` address must bear, instead of the address’ own host.',
        example: 'api.internal',
      },
      isHostName,
    ),
  ),
  upstreamEjectAfter: integer(
    'Upstream',
    3,
    [1, 1000],
    'Of several upstream addresses: failures in a row, of requests or health checks, that set one aside.',
  ),
  upstreamEjectMs: integer(
    'Upstream',
    10_000,
    [1, hourMs],
    'Without `upstreamHealthPath`: ms until an address that was set aside is tried again, with one request at a time.',
  ),
  upstreamHealthPath: keyWithout(
    text(
      {
        group: 'Upstream',
        allowed: 'a path and query, such as /healthz',
        meaning: 'Of several upstream addresses: each is asked for this; good is an answer of 2xx or 3xx.',
        example: '/healthz',
      },
      (value) => /^\/[\x21\x22\x24-\x7e]*$/.test(value),
    ),
  ),
  upstreamHealthIntervalMs: integer('Upstream', 2000, [10, hourMs], 'Ms between two health checks, per worker.'),
  upstreamHealthTimeoutMs: integer(
    'Upstream',
    1000,
    [10, hourMs],
    'Ms that a health check may take to connect, and again to be answered.',
  ),
  upstreamHealthSuccesses: integer('Upstream', 2, [1, 1000], 'Good health checks in a row that bring an address back.'),
  bodyMaxBytes: integer(
    'Upstream',
    0,
    [0, Number.MAX_SAFE_INTEGER],
    'Largest request body in bytes, else 413; 0 sets no limit.',
  ),
};
