/** The admin API. */
import { z } from 'zod';
import { isHostName } from '../formats.js';
import { descriptions, integer } from './key.js';

export const admin = {
  adminHosts: z.array(z.string().refine(isHostName)).default([]).register(descriptions, {
    group: 'Admin API',
    kind: 'list',
    allowed: 'a list of host names, such as gate.example.com',
    meaning:
      'Further names under which the admin plane is asked, behind a proxy for instance. Addresses, `localhost` and names without a dot always are; any other Host is refused (DNS rebinding).',
  }),
  adminSessionIdleMinutes: integer('Admin API', 30, [1, 1440], 'Minutes after its last request until a session ends.'),
  adminSessionHours: integer('Admin API', 12, [1, 720], 'Hours after its login until a session ends.'),
  adminRequestsPerMinute: integer(
    'Admin API',
    3000,
    [0, 1_000_000],
    'Requests per minute and principal, per process, then 429; 0 sets no limit.',
  ),
};
