/**
 * One call of lua/admit.lua: many tickets in, one verdict each. The positions in its batch and in its reply are known
 * here and nowhere else.
 *
 * What keeps it fast: batch and verdicts are fixed-size binary (the script reads a request at a third of the cost of
 * msgpack; ioredis takes 0.3 us for every integer of a reply), keys are named once a batch, the arrays of a batch are
 * reused, one verdict object serves all.
 */
import type { Redis } from 'ioredis';
import { keys } from '../redis/keys.js';
import { bindScript, loadScript, type RunScript } from '../redis/scripts.js';
import type { RedisConnection } from '../redis/target.js';
import {
  type AdmissionTicket,
  type Carrier,
  type LeaseGrant,
  leaseMaxMs,
  type TicketBatch,
  type Verdict,
  type VerdictCode,
  verdictCodes,
} from './ticket.js';

const script = loadScript({
  name: 'admit',
  keys: ['meta', 'record...', 'claims...'],
  argv: ['installation', 'batch', 'clock', 'preview', 'leases', 'claims'],
});

/** Binds the script to a connection. Its strings come back as Buffers: the verdicts are binary. */
export function bindAdmit(redis: RedisConnection): RunScript {
  return bindScript(redis, script, 'binary');
}

const headSize = 2;
const requestSize = 36;
const verdictSize = 20;
const leaseSize = 28;
const claimSize = 34;
const grantSize = 33;
const marksSize = 16;
const noLimit = 255;
const uint32Max = 2 ** 32 - 1;
const uint48Max = 2 ** 48 - 1;

/** As lua/admit.lua gives it: now in ms, the verdicts, an index and JSON for each moved record, what is leased. */
export type Reply = readonly [nowMs: number, verdicts: Buffer, ...moved: (number | Buffer | null)[]];

export class AdmitBatch {
  readonly tickets: AdmissionTicket[] = [];
  readonly #recordIndex = new Map<string, number>();
  readonly #claimSetIndex = new Map<string, number>();
  readonly #claimIndex = new Map<string, number>();
  /** Those of the last `send`, packed; the place of each is in the index. */
  #claims: Buffer = Buffer.alloc(0);
  readonly #tokens: number[] = [];
  readonly #tenants: number[] = [];
  /** How many tickets of the last `send` had a question about a lease. */
  #leases = 0;
  readonly #metaKey: string;

  /** `shard`: whose meta key is asked. On one server all shards share a batch, and any shard's will do. */
  constructor(shard = '00') {
    this.#metaKey = keys.meta(shard);
  }

  /** Forgets the tickets; what was sent before is no longer readable. */
  clear(): void {
    this.tickets.length = 0;
  }

  /**
   * Sends the tickets. `installation` is the id the store must carry ('' while unknown); `clockUs` replaces Redis'
   * clock, for tests; `isPreview` decides and writes nothing. Rejects with what the connection or Redis says.
   */
  async send(run: RunScript, installation: string, clockUs?: number, isPreview = false): Promise<unknown> {
    const { tickets } = this;
    const recordIndex = this.#recordIndex;
    recordIndex.clear();
    this.#claimSetIndex.clear();
    this.#claimIndex.clear();
    const scriptKeys = [this.#metaKey];
    const batch = Buffer.allocUnsafe(headSize + tickets.length * requestSize);
    this.#leases = 0;
    for (let index = 0; index < tickets.length; index += 1) {
      const ticket = tickets[index] as AdmissionTicket;
      if (ticket.lease !== null) this.#leases += 1;
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
      batch.writeUInt16LE(ticket.claim === '' ? 0 : this.#addClaim(ticket), at + 16);
      batch.writeUIntLE(msOf(ticket.notBeforeMs), at + 18, 6);
      // What is not a time must not read as "no bound".
      batch.writeUIntLE(ticket.notAfterMs === 0 ? 0 : Math.max(1, msOf(ticket.notAfterMs)), at + 24, 6);
      batch.writeUIntLE(msOf(ticket.claimUntilMs), at + 30, 6);
    }
    batch.writeUInt16LE(recordIndex.size, 0);
    const hasClaims = this.#claimIndex.size > 0;
    const args: (string | Buffer)[] = [installation, batch, clockUs === undefined ? '' : String(clockUs)];
    if (isPreview || this.#leases > 0 || hasClaims) args.push(isPreview ? 'preview' : '');
    if (this.#leases > 0 || hasClaims) args.push(this.#leases > 0 ? this.#leaseQuestions() : '');
    if (hasClaims) {
      scriptKeys.push(...this.#claimSetIndex.keys());
      args.push(this.#claims.subarray(0, this.#claimIndex.size * claimSize));
    }
    return run(scriptKeys, args);
  }

  /** Whether `reply` has the shape that the script's header promises for the last `send`. */
  isReply(reply: unknown): reply is Reply {
    return Array.isArray(reply) && Buffer.isBuffer(reply[1]) && reply[1].length === this.tickets.length * verdictSize;
  }

  /** Reads the reply to the last `send` and hands each ticket its verdict. */
  settle(reply: Reply, verdict: Verdict, settled: (ticket: AdmissionTicket, verdict: Verdict) => void): void {
    const { tickets } = this;
    const [nowMs, verdicts] = reply;
    const granted = this.#leases > 0 ? reply.at(-1) : undefined;
    let grantAt = 0;
    for (let index = 0; index < tickets.length; index += 1) {
      const ticket = tickets[index] as AdmissionTicket;
      const at = index * verdictSize;
      const limitIndex = verdicts[at + 1] as number;
      verdict.nowMs = nowMs;
      verdict.code = verdicts[at] as VerdictCode;
      verdict.limitIndex = limitIndex === noLimit ? -1 : limitIndex;
      verdict.remaining = verdicts.readUIntLE(at + 2, 6);
      verdict.resetMs = verdicts.readUIntLE(at + 8, 6);
      verdict.retryMs = verdicts.readUIntLE(at + 14, 6);
      verdict.tokenRecord = null;
      verdict.tenantRecord = null;
      verdict.lease = null;
      if (ticket.lease !== null && Buffer.isBuffer(granted)) {
        verdict.lease = grantIn(granted, grantAt, nowMs);
        grantAt += grantSize;
      }
      if (verdict.code === verdictCodes.moved) {
        verdict.tokenRecord = movedRecord(reply, this.#tokens[index] as number);
        verdict.tenantRecord = movedRecord(reply, this.#tenants[index] as number);
        if (verdict.tokenRecord === null && verdict.tenantRecord === null) verdict.code = verdictCodes.unreadable;
      }
      settled(ticket, verdict);
    }
  }

  /** Which of the batch's claims is the ticket's, 1 for the first; the same claim of another ticket is the same one. */
  #addClaim({ claim, claimKey }: AdmissionTicket): number {
    const known = this.#claimIndex.size;
    const number = indexOf(this.#claimIndex, claimKey + claim);
    if (number > known) {
      if (known === 0) this.#claims = Buffer.alloc(this.tickets.length * claimSize);
      this.#claims.writeUInt16LE(indexOf(this.#claimSetIndex, claimKey), known * claimSize);
      this.#claims.write(claim, known * claimSize + 2, 'hex');
    }
    return number;
  }

  #leaseQuestions(): Buffer {
    const questions = Buffer.alloc(this.#leases * leaseSize);
    let at = 0;
    for (const [index, { lease }] of this.tickets.entries()) {
      if (lease === null) continue;
      questions.writeUInt16LE(index, at);
      questions.writeUInt32LE(lease.units, at + 2);
      questions.writeUIntLE(lease.datedMs, at + 6, 6);
      lease.marks.copy(questions, at + leaseSize - marksSize);
      at += leaseSize;
    }
    return questions;
  }
}

function grantIn(granted: Buffer, at: number, nowMs: number): LeaseGrant | null {
  const units = granted.readUInt32LE(at);
  if (units === 0) return null;
  const limitIndex = granted.readUInt8(at + 4);
  return {
    units,
    limitIndex: limitIndex === noLimit ? -1 : limitIndex,
    remaining: granted.readUIntLE(at + 5, 6),
    resetMs: granted.readUIntLE(at + 11, 6),
    nowMs,
    datedMs: nowMs + leaseMaxMs,
    marks: Buffer.from(granted.subarray(at + 17, at + grantSize)),
  };
}

/** Everything on one server: a batch is one call of the script. */
export function serverCarrier(redis: Redis): Carrier {
  const run = bindAdmit(redis);
  return {
    newBatch: () => new ServerBatch(run),
    onConnected: (listener) => redis.on('ready', listener),
    failed: () => {},
  };
}

class ServerBatch implements TicketBatch {
  readonly #batch = new AdmitBatch();
  readonly #run: RunScript;
  readonly tickets = this.#batch.tickets;

  constructor(run: RunScript) {
    this.#run = run;
  }

  clear(): void {
    this.#batch.clear();
  }

  send(installation: string): Promise<unknown> {
    return this.#batch.send(this.#run, installation);
  }

  isReply(reply: unknown): boolean {
    return this.#batch.isReply(reply);
  }

  settle(reply: unknown, verdict: Verdict, settled: (ticket: AdmissionTicket, verdict: Verdict) => void): void {
    this.#batch.settle(reply as Reply, verdict, settled);
  }
}

/** JSON of a record that moved, null when this one did not. */
function movedRecord(reply: Reply, record: number): string | null {
  for (let at = 2; at < reply.length; at += 2) {
    if (reply[at] === record) return reply[at + 1]?.toString() ?? null;
  }
  return null;
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
