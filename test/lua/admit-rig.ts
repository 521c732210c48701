/** A real Redis, records written as the token scripts write them, and single calls of lua/admit.lua at a chosen time. */
import type { Redis } from 'ioredis';
import { AdmitBatch, bindAdmit } from '../../src/admission/admit.js';
import {
  type AdmissionTicket,
  blankVerdict,
  type Verdict,
  type VerdictCode,
  verdictCodes,
} from '../../src/admission/ticket.js';
import { compileLimits, type Limit } from '../../src/admission/limit.js';
import { allShards, keys } from '../../src/redis/keys.js';
import type { RunScript } from '../../src/redis/scripts.js';

export const installation = 'rig-installation';

/** A ticket with the fields a test cares about. */
export type TicketFields = Partial<Omit<AdmissionTicket, 'admissionSettled'>> & { readonly tokenKey: string };

export function ticketOf(
  fields: TicketFields,
  admissionSettled: (verdict: Verdict) => void = () => {},
  waitingSinceMs = 0,
): AdmissionTicket {
  return {
    tokenVersion: 1,
    tenantKey: '',
    tenantVersion: 0,
    cost: 1,
    notBeforeMs: 0,
    notAfterMs: 0,
    claim: '',
    claimKey: '',
    claimUntilMs: 0,
    leasable: false,
    lease: null,
    waitingSinceMs,
    cancelled: false,
    ...fields,
    admissionSettled,
  };
}

/** Marks the store as initialised, as `tenant create` does. */
export async function initialise(redis: Redis): Promise<void> {
  for (const shard of allShards) await redis.hset(keys.meta(shard), { schema: 1, installation, createdAt: 0 });
}

/** Writes a record (token or tenant alike) with these limits. */
export async function writeRecord(redis: Redis, key: string, limits: readonly Limit[], version = 1): Promise<void> {
  await redis.hset(key, { version, record: `{"version":${version}}`, limits: compileLimits(limits) });
}

export class AdmitRig {
  readonly redis: Redis;
  readonly #run: RunScript;

  constructor(redis: Redis) {
    this.redis = redis;
    this.#run = bindAdmit(redis);
  }

  /** One batch at one time (microseconds; Redis' own clock when left out); verdicts in the order of the tickets. */
  async batch(tickets: readonly TicketFields[], clockUs?: number, expected = installation): Promise<Verdict[]> {
    const batch = new AdmitBatch();
    batch.tickets.push(...tickets.map((fields) => ticketOf(fields)));
    const reply = await batch.send(this.#run, expected, clockUs);
    if (!batch.isReply(reply)) throw new Error('malformed reply');
    const verdicts: Verdict[] = [];
    batch.settle(reply, blankVerdict(), (_, verdict) => verdicts.push({ ...verdict }));
    return verdicts;
  }

  /** One ticket alone. */
  async one(fields: TicketFields, clockUs?: number): Promise<Verdict> {
    const [verdict] = await this.batch([fields], clockUs);
    return verdict as Verdict;
  }
}

const names = new Map<number, keyof typeof verdictCodes>(
  Object.entries(verdictCodes).map(([name, code]) => [code, name as keyof typeof verdictCodes]),
);

/** Name of a verdict's code, for readable assertions. */
export function nameOf(code: VerdictCode): keyof typeof verdictCodes {
  return names.get(code) as keyof typeof verdictCodes;
}
