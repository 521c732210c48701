/**
 * One call of lua/admit.lua: many tickets in, one verdict each. The positions in its batch and in its reply are known
 * here and nowhere else.
 *
 * What keeps it fast: a fixed-size binary batch (the script reads it at a third of the cost of msgpack), keys named
 * once a batch, the arrays of a batch reused, one verdict object for all.
 */
import { keys } from '../redis/keys.js';
import { loadScript, type RunScript } from '../redis/scripts.js';

/** The checked script; bind it to a connection with `bindScript`. */
export const admitScript = loadScript({
  name: 'admit',
  keys: ['meta', 'record...', 'claim...'],
  argv: ['installation', 'batch', 'clock'],
});

/** What became of a ticket. The first eleven are lua/admit.lua's, the last two are decided in this process. */
export const verdictCodes = {
  /** Everything holds; the cost is charged and the claim is made. */
  admitted: 1,
  /** Cost 0: everything holds, nothing was charged. A claim is made all the same. */
  confirmed: 2,
  /** A record is not the version the ticket was decided under: `tokenRecord`, `tenantRecord` hold what changed. */
  moved: 3,
  /** The token (or its tenant) does not exist. */
  unknown: 4,
  /** Redis holds no installation, or another one than expected: an outage, never a reason for 401. */
  storeEmpty: 5,
  /** Redis' clock is at or past `notAfterMs`. */
  tooLate: 6,
  /** Redis' clock is before `notBeforeMs`. */
  tooEarly: 7,
  /** The claim was made before. */
  replayed: 8,
  /** A rate limit has not enough units left; wait `retryMs`. */
  limited: 9,
  /** A quota has not enough units left; wait `retryMs`. */
  quotaExceeded: 10,
  /** The record in Redis cannot be decoded. */
  unreadable: 11,
  /** Too many tickets wait already. */
  overloaded: 20,
  /** Redis did not answer, in time or at all. */
  storeUnavailable: 21,
} as const;

export type VerdictCode = (typeof verdictCodes)[keyof typeof verdictCodes];

/**
 * ONE object that is overwritten for every ticket: read it inside `admissionSettled`, keep nothing of it.
 *
 * `limitIndex`, `remaining`, `resetMs` describe one limit whenever both records were current: the one nearest to its
 * end (smallest share of its capacity left after the charge), or on `limited` and `quotaExceeded` the one with the
 * longest wait. Else `limitIndex` is -1 and they are 0.
 */
export interface Verdict {
  code: VerdictCode;
  /** Counts the token's effective limits from 0, then the tenant's; -1: no limit to speak of. */
  limitIndex: number;
  /** Units that limit has left. */
  remaining: number;
  /** Until further units come back to it, ms; 0 when it is full. */
  resetMs: number;
  /** Refusals: until the same request could be admitted if nobody else calls, ms; else 0. */
  retryMs: number;
  /** Redis' clock, ms; 0 when Redis was not asked. */
  nowMs: number;
  /** `moved`: the token's record, JSON, when the token changed. */
  tokenRecord: string | null;
  /** `moved`: the tenant's record, JSON, when the tenant changed. */
  tenantRecord: string | null;
}

/** One request's question. The pipeline owns the object; its fields must not change until it is settled. */
export interface AdmissionTicket {
  readonly tokenKey: string;
  /** Version of the token record that was decided under; 0: none is cached. */
  readonly tokenVersion: number;
  /** '' when the tenant is not known yet: it is not asked for then. */
  readonly tenantKey: string;
  readonly tenantVersion: number;
  /** Units; 0 only confirms that the records are current. */
  readonly cost: number;
  /** Bounds on Redis' clock, ms: `notBeforeMs <= now < notAfterMs`; 0: no bound. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Key that may be taken once (an HMAC signature or nonce); '' none. */
  readonly claimKey: string;
  /** The claim is kept until then, ms. */
  readonly claimUntilMs: number;
  /** The client has left: a ticket that was not sent yet is dropped, charged nothing and never settled. */
  readonly cancelled: boolean;
  /** Called once, always in a later macrotask than `submit`. */
  admissionSettled(verdict: Verdict): void;
}

const headSize = 2;
const requestSize = 36;
const replyHead = 1;
const replyWidth = 5;
const uint32Max = 2 ** 32 - 1;
const uint48Max = 2 ** 48 - 1;

/** As lua/admit.lua gives it: see its header. */
export type Reply = readonly (number | string | null)[];

export class AdmitBatch {
  readonly tickets: AdmissionTicket[] = [];
  readonly #recordIndex = new Map<string, number>();
  readonly #claimIndex = new Map<string, number>();
  readonly #tokens: number[] = [];
  readonly #tenants: number[] = [];

  /** Forgets the tickets; what was sent before is no longer readable. */
  clear(): void {
    this.tickets.length = 0;
  }

  /**
   * Sends the tickets. `installation` is the id the store must carry ('' while unknown); `clockUs` replaces Redis'
   * clock, for tests. Rejects with what the connection or Redis says.
   */
  async send(run: RunScript, installation: string, clockUs?: number): Promise<unknown> {
    const { tickets } = this;
    const recordIndex = this.#recordIndex;
    const claimIndex = this.#claimIndex;
    recordIndex.clear();
    claimIndex.clear();
    // All shards of one server share a batch, so any shard's meta key will do.
    const scriptKeys = [keys.meta('00')];
    const batch = Buffer.allocUnsafe(headSize + tickets.length * requestSize);
    for (let index = 0; index < tickets.length; index += 1) {
      const ticket = tickets[index] as AdmissionTicket;
      const token = indexOf(recordIndex, ticket.tokenKey, scriptKeys);
      const tenant = ticket.tenantKey === '' ? 0 : indexOf(recordIndex, ticket.tenantKey, scriptKeys);
      this.#tokens[index] = token;
      this.#tenants[index] = tenant;
      const at = headSize + index * requestSize;
      batch.writeUInt16LE(token, at);
      batch.writeUInt32LE(ticket.tokenVersion >>> 0, at + 2);
      batch.writeUInt16LE(tenant, at + 6);
      batch.writeUInt32LE(ticket.tenantVersion >>> 0, at + 8);
      batch.writeUInt32LE(costOf(ticket.cost), at + 12);
      batch.writeUInt16LE(ticket.claimKey === '' ? 0 : indexOf(claimIndex, ticket.claimKey), at + 16);
      batch.writeUIntLE(msOf(ticket.notBeforeMs), at + 18, 6);
      // What is not a time must not read as "no bound".
      batch.writeUIntLE(ticket.notAfterMs === 0 ? 0 : Math.max(1, msOf(ticket.notAfterMs)), at + 24, 6);
      batch.writeUIntLE(msOf(ticket.claimUntilMs), at + 30, 6);
    }
    batch.writeUInt16LE(recordIndex.size, 0);
    if (claimIndex.size > 0) scriptKeys.push(...claimIndex.keys());
    return run(scriptKeys, [installation, batch, clockUs === undefined ? '' : String(clockUs)]);
  }

  /** Whether `reply` has the shape that the script's header promises for the last `send`. */
  isReply(reply: unknown): reply is Reply {
    return Array.isArray(reply) && reply.length >= replyHead + this.tickets.length * replyWidth;
  }

  /** Reads the reply to the last `send` and hands each ticket its verdict. */
  settle(values: Reply, verdict: Verdict, settled: (ticket: AdmissionTicket, verdict: Verdict) => void): void {
    const { tickets } = this;
    const movedFrom = replyHead + tickets.length * replyWidth;
    for (let index = 0; index < tickets.length; index += 1) {
      const at = replyHead + index * replyWidth;
      verdict.nowMs = values[0] as number;
      verdict.code = values[at] as VerdictCode;
      verdict.limitIndex = values[at + 1] as number;
      verdict.remaining = values[at + 2] as number;
      verdict.resetMs = values[at + 3] as number;
      verdict.retryMs = values[at + 4] as number;
      verdict.tokenRecord = null;
      verdict.tenantRecord = null;
      if (verdict.code === verdictCodes.moved) {
        for (let moved = movedFrom; moved < values.length; moved += 2) {
          if (values[moved] === this.#tokens[index]) verdict.tokenRecord = values[moved + 1] as string | null;
          if (values[moved] === this.#tenants[index]) verdict.tenantRecord = values[moved + 1] as string | null;
        }
        if (verdict.tokenRecord === null && verdict.tenantRecord === null) verdict.code = verdictCodes.unreadable;
      }
      settled(tickets[index] as AdmissionTicket, verdict);
    }
  }
}

/** Place of `key`, counted from 1; a new key is appended to `list` where one is given. */
function indexOf(places: Map<string, number>, key: string, list?: string[]): number {
  let place = places.get(key);
  if (place === undefined) {
    place = places.size + 1;
    places.set(key, place);
    list?.push(key);
  }
  return place;
}

/** A cost the batch can carry; what is no number costs more than anyone has. */
function costOf(cost: number): number {
  return cost >= 0 ? Math.min(Math.ceil(cost), uint32Max) : uint32Max;
}

function msOf(ms: number): number {
  return ms > 0 ? Math.min(Math.floor(ms), uint48Max) : 0;
}

/** A verdict to be overwritten. */
export function blankVerdict(): Verdict {
  const verdict = {} as Verdict;
  stateWithoutRedis(verdict, verdictCodes.storeUnavailable);
  return verdict;
}

/** Overwrites `verdict` with one that Redis was not asked for. */
export function stateWithoutRedis(verdict: Verdict, code: VerdictCode): void {
  verdict.code = code;
  verdict.limitIndex = -1;
  verdict.remaining = 0;
  verdict.resetMs = 0;
  verdict.retryMs = 0;
  verdict.nowMs = 0;
  verdict.tokenRecord = null;
  verdict.tenantRecord = null;
}
