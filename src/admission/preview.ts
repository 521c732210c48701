/**
 * What admission would say of one request now, and how full each limit is: lua/admit.lua itself, asked to write nothing.
 * Nothing is charged and no signature is used up, so it can be asked as often as one likes.
 */
import { allShards, shardNumberOf } from '../redis/keys.js';
import type { RedisConnection } from '../redis/target.js';
import { AdmitBatch, bindAdmit } from './admit.js';
import { type AdmissionTicket, blankVerdict, type Verdict } from './ticket.js';

/** A limit before the request: units left, units when full, and ms until units come back (0 when it is full). */
interface PreviewedLimit {
  readonly remaining: number;
  readonly capacity: number;
  readonly resetMs: number;
}

export interface Preview {
  readonly verdict: Verdict;
  /** The effective limits of the token, in their order; none when its record is not the version asked about. */
  readonly tokenLimits: readonly PreviewedLimit[];
  readonly tenantLimits: readonly PreviewedLimit[];
}

/** What a preview is asked about: a ticket that names its tenant. */
export type PreviewTicket = Omit<
  AdmissionTicket,
  'leasable' | 'lease' | 'cancelled' | 'waitingSinceMs' | 'admissionSettled'
>;

const stateSize = 18;

/**
 * Asks. `installation`: the id the store must carry.
 * @throws what the connection or Redis says.
 */
export async function previewAdmission(
  redis: RedisConnection,
  installation: string,
  ticket: PreviewTicket,
): Promise<Preview> {
  const batch = new AdmitBatch(allShards[shardNumberOf(ticket.tokenKey)]);
  batch.tickets.push({
    ...ticket,
    leasable: false,
    lease: null,
    waitingSinceMs: 0,
    cancelled: false,
    admissionSettled: () => {},
  });
  const reply = await batch.send(bindAdmit(redis), installation, undefined, true);
  if (!batch.isReply(reply)) throw new Error('lua/admit.lua answered a preview in another form');
  const verdict = blankVerdict();
  batch.settle(reply, verdict, () => {});
  const [token, tenant] = reply.slice(-2) as [Buffer, Buffer];
  return { verdict, tokenLimits: limitsIn(token), tenantLimits: limitsIn(tenant) };
}

function limitsIn(states: Buffer): PreviewedLimit[] {
  return Array.from({ length: states.length / stateSize }, (_, index) => {
    const at = index * stateSize;
    return {
      remaining: states.readUIntLE(at, 6),
      capacity: states.readUIntLE(at + 6, 6),
      resetMs: states.readUIntLE(at + 12, 6),
    };
  });
}
