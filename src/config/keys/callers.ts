/** Who may call and what is known of them beside their credential. */
import { z } from 'zod';
import { isAddressBlock, isHostName } from '../formats.js';
import { descriptions, integer, keyWithout, onOff, text } from './key.js';

export const callers = {
  tenantHost: keyWithout(
    text(
      {
        group: 'Callers',
        allowed: 'a host name whose first label is *, such as *.example.com',
        meaning: 'The subdomain names the tenant; a token of another tenant then gets 403.',
        example: '*.example.com',
      },
      (value) => value.startsWith('*.') && value.includes('.', 2) && isHostName(value.slice(2)),
    ),
  ),
  trustedProxies: z.array(z.string().refine(isAddressBlock)).default([]).register(descriptions, {
    group: 'Callers',
    kind: 'list',
    allowed: 'a list of addresses and CIDR blocks, such as 10.0.0.0/8 and ::1',
    meaning: 'Peers whose `X-Forwarded-*` headers are believed.',
  }),
  authFailureLimit: integer(
    'Callers',
    300,
    [0, 1_000_000],
    'Failed authentications per minute and client address, per worker, then 429; 0 sets no limit.',
  ),
  wellKnown: onOff('Callers', true, 'Answer `GET /.well-known/tollkeeper`: a caller reads its own scopes and limits.'),
  policy: z
    .union([z.string().min(1), z.record(z.string(), z.unknown())])
    .optional()
    .register(descriptions, {
      group: 'Callers',
      kind: 'policy',
      allowed: 'the path of a policy file, or in the YAML file the policy itself',
      meaning: 'What each route needs; in the YAML file also written out in place.',
      reloadable: true,
    }),
};
