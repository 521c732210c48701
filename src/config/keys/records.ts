/** What is kept of requests and changes: access log, audit log, and the own log of the process. */
import { z } from 'zod';
import { descriptions, integer, onOff } from './key.js';

const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;

export const accessLog = {
  logRetentionDays: integer('Access log', 30, [1, 3650], 'Days that a day’s log is kept.'),
  logStreamMaxEntries: integer('Access log', 1_000_000, [1, 1_000_000_000], 'Entries kept per tenant and day.'),
  logQuery: onOff('Access log', false, 'Log the query of the request target; it may hold secrets of your clients.'),
  logBufferMaxEntries: integer(
    'Access log',
    50_000,
    [1, 10_000_000],
    'Entries held while Redis is away, per worker; more are dropped and counted.',
  ),
  logFlushIntervalMs: integer('Access log', 25, [1, 60_000], 'Ms until an entry is written at the latest.'),
  logLevel: z
    .enum(logLevels)
    .default('info')
    .register(descriptions, {
      group: 'Access log',
      kind: 'text',
      allowed: `one of ${logLevels.join(', ')}`,
      meaning: 'How much of its own working the process writes to standard output.',
    }),
};

export const audit = {
  auditMaxEntries: integer(
    'Audit',
    100_000,
    [1000, 10_000_000],
    'Records of changes that are kept, about 400 bytes each; the same on every Tollkeeper of this Redis.',
  ),
};
