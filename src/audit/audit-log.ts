/**
 * Appends to the audit stream.
 *
 * Algorithm: the next record is hashed onto the head that this process last saw; the script appends it only if that is
 *   still the head, else answers the new head and it is hashed again. Records that wait leave together.
 * Concurrency: one call of this process is in flight at a time; another process that appends in between costs one more
 *   round trip.
 * Failure: no answer means that the record may be there or not. It is not sent again, and the caller is told.
 */
import { auditFields, type AuditDraft, type AuditEntry, type AuditRecord, chain, recordOf } from './record.js';
import { keys } from '../redis/keys.js';
import type { RunScript, ScriptContract } from '../redis/scripts.js';
import { type Store, StoreUnavailableError } from '../redis/store.js';

/** Contract of lua/audit-append.lua. */
export const auditAppendContract: ScriptContract = {
  name: 'audit-append',
  keys: ['audit', 'auditHead'],
  argv: ['seq', 'hash', 'entriesMax', 'fields', 'valueOfEntry...'],
};

export interface AuditLogOptions {
  /** Records kept; older ones are cut off. */
  readonly entriesMax: number;
  /** ms since 1970. */
  readonly now?: () => number;
  /** Hears of every record that was appended. */
  readonly appended?: (record: AuditRecord) => void;
}

/** Records of one call, at most: the script's values must stay far below Lua's limit of arguments. */
const batchMax = 50;
/** How often a batch is hashed anew because other processes were faster. */
const attemptsMax = 200;

/** A record that was appended. */
export interface Appended {
  readonly record: AuditRecord;
  /** Waits until it would survive a failover. @throws NotConfirmedError when nothing vouches for that. */
  readonly confirm: () => Promise<void>;
}

interface Waiting {
  readonly draft: AuditDraft;
  readonly resolve: (appended: Appended) => void;
  readonly reject: (error: unknown) => void;
}

export class AuditLog {
  readonly #store: Store;
  readonly #options: AuditLogOptions;
  readonly #append: RunScript;
  readonly #waiting: Waiting[] = [];
  #writing = false;
  /** As the script last told; a wrong one is corrected by its answer. */
  #head = { seq: '', hash: '' };

  constructor(store: Store, options: AuditLogOptions) {
    this.#store = store;
    this.#options = options;
    this.#append = store.bind(auditAppendContract);
  }

  /**
   * Appends a record and answers it.
   * @throws StoreUnavailableError when it is not known to be there.
   */
  async append(draft: AuditDraft): Promise<AuditRecord> {
    return (await this.appended(draft)).record;
  }

  /** As {@link append}, for who wants the record confirmed later, with what it is about. */
  appended(draft: AuditDraft): Promise<Appended> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ draft, resolve, reject });
      if (!this.#writing) void this.#writeAll();
    });
  }

  async #writeAll(): Promise<void> {
    this.#writing = true;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, batchMax);
      try {
        const drafts = batch.map(({ draft }) => draft);
        const { result, confirm } = await this.#store.written('the audit log', () => this.#write(drafts));
        for (const [index, { resolve }] of batch.entries()) {
          const record = recordOf(result[index] as AuditEntry);
          this.#options.appended?.(record);
          resolve({ record, confirm });
        }
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#writing = false;
  }

  async #write(drafts: readonly AuditDraft[]): Promise<AuditEntry[]> {
    const nowMs = (this.#options.now ?? Date.now)();
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const { seq, hash } = this.#head;
      const entries: AuditEntry[] = [];
      for (const draft of drafts) {
        const before = entries.at(-1);
        entries.push(chain(draft, Number(seq) + entries.length + 1, before?.texts.hash ?? hash, nowMs));
      }
      const values = entries.flatMap(({ texts }) => auditFields.map((field) => texts[field]));
      const reply = (await this.#append(
        [keys.audit(), keys.auditHead()],
        [seq, hash, this.#options.entriesMax, auditFields.join(','), ...values],
      )) as [number, string, string];
      this.#head = { seq: reply[1], hash: reply[2] };
      if (reply[0] === 1) return entries;
    }
    throw new StoreUnavailableError('Too many write to the audit log at once: try again.');
  }
}
