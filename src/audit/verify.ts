/**
 * Checks the audit stream record by record: every hash is that of its record, every record follows the one before, none
 * is missing between the anchor (what was last cut off by retention) and the head.
 *
 * Whoever may write to Redis can also write a whole new chain with a new head. Against that helps only what is known
 * elsewhere: the head of an earlier verification, or the records in the process' own log.
 */
import { type AuditEntry, hashOf } from './record.js';
import { scanForwards } from './reader.js';
import { keys } from '../redis/keys.js';
import type { Store } from '../redis/store.js';

export interface ChainPoint {
  readonly seq: number;
  readonly hash: string;
}

interface AuditFault {
  /** Sequence number at which the chain breaks. */
  readonly seq: number;
  /** One sentence for a person. */
  readonly message: string;
}

export interface AuditVerification {
  readonly intact: boolean;
  /** Records looked at. */
  readonly records: number;
  /** First and last of them; 0: there are none. */
  readonly firstSeq: number;
  readonly lastSeq: number;
  /** Where the chain ends: keep it, and give it to a later verification. */
  readonly head: ChainPoint;
  /** Attempts without an outcome: the process ended meanwhile, or the outcome could not be written. */
  readonly openAttempts: number;
  /** At most {@link faultsMax}. */
  readonly faults: readonly AuditFault[];
}

const faultsMax = 100;

/**
 * Verifies everything that is kept.
 * @param known the head of an earlier verification: its record must still be there, unchanged, unless retention cut it.
 * @throws StoreUnavailableError.
 */
export async function verifyAudit(store: Store, known?: ChainPoint): Promise<AuditVerification> {
  for (;;) {
    // Retention may cut the first records off while the rest is being read: the anchor has moved then.
    const anchor = await readPoint(store, 'anchorSeq', 'anchorHash');
    const checked = await verifyFrom(store, anchor, known);
    const moved = (await readPoint(store, 'anchorSeq', 'anchorHash')).seq !== anchor.seq;
    if (checked.intact || !moved) return checked;
  }
}

async function verifyFrom(store: Store, anchor: ChainPoint, known: ChainPoint | undefined): Promise<AuditVerification> {
  const faults: AuditFault[] = [];
  const open = new Set<number>();
  let previous = anchor;
  let records = 0;
  let firstSeq = 0;
  let isKnownSeen = known === undefined || known.seq <= anchor.seq;
  for await (const step of scanForwards(store)) {
    for (const entry of step) {
      if (records === 0) firstSeq = entry.seq;
      records += 1;
      if (faults.length < faultsMax) faults.push(...faultsOf(entry, previous));
      if (known !== undefined && entry.seq === known.seq) {
        isKnownSeen = true;
        if (entry.texts.hash !== known.hash) faults.push(fault(entry.seq, 'is another one than the head given'));
      }
      if (entry.texts.result === 'attempted') open.add(entry.seq);
      else open.delete(Number(entry.texts.attempt));
      previous = { seq: entry.seq, hash: entry.texts.hash };
    }
  }
  // Read after the records: what was appended meanwhile lies beyond the last one seen, and is not missing.
  const head = await readPoint(store, 'seq', 'hash');
  if (head.seq < previous.seq) faults.push(fault(previous.seq, 'lies beyond the head of the chain'));
  else if (head.seq === previous.seq && head.hash !== previous.hash) {
    faults.push(fault(head.seq, 'is another one than the head of the chain'));
  } else if (head.seq > previous.seq && !(await hasEntry(store, previous.seq + 1))) {
    faults.push(fault(previous.seq + 1, `and all up to ${head.seq} are missing at the end`));
  }
  if (!isKnownSeen) faults.push(fault((known as ChainPoint).seq, 'was the head given and is missing'));
  return {
    intact: faults.length === 0,
    records,
    firstSeq,
    lastSeq: previous.seq,
    head: previous,
    openAttempts: open.size,
    faults: faults.slice(0, faultsMax),
  };
}

function faultsOf(entry: AuditEntry, previous: ChainPoint): AuditFault[] {
  const { seq, texts } = entry;
  const faults: AuditFault[] = [];
  if (seq !== previous.seq + 1) {
    const missing = seq - previous.seq - 1;
    const which = missing === 1 ? `${seq - 1} is` : `${previous.seq + 1} to ${seq - 1} are`;
    faults.push({ seq: previous.seq + 1, message: `Record ${which} missing.` });
  } else if (texts.prev !== previous.hash) {
    faults.push(fault(seq, `does not follow record ${previous.seq}: one of them was changed or moved`));
  }
  if (texts.hash !== hashOf(entry)) faults.push(fault(seq, 'was changed: its hash is not that of what it says'));
  return faults;
}

function fault(seq: number, what: string): AuditFault {
  return { seq, message: `Record ${seq} ${what}.` };
}

async function hasEntry(store: Store, seq: number): Promise<boolean> {
  const id = `${seq}-0`;
  return (await store.ask(() => store.redis.xrange(keys.audit(), id, id))).length > 0;
}

async function readPoint(store: Store, seqField: string, hashField: string): Promise<ChainPoint> {
  const [seq, hash] = await store.ask(() => store.redis.hmget(keys.auditHead(), seqField, hashField));
  return { seq: Number(seq ?? 0), hash: hash ?? '' };
}
