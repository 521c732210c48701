/**
 * HMAC secrets opened for use. Each is kept as long as the prepared record it came from, so a rotated secret is gone
 * with its record and opening costs nothing on the hot path. One that cannot be opened is remembered too: whoever knows
 * a token's id could fill the log with it.
 */
import type { KeyObject } from 'node:crypto';
import type { PreparedToken } from '../token/cache.js';
import { hmacKey } from './hmac.js';
import { type MasterKeys, openSecret } from './sealed-secret.js';

/** A secret that this process cannot open: an outage, never a 401. */
export const unreadable = 'unreadable';

type Opened = KeyObject | typeof unreadable;

export class HmacSecrets {
  readonly #masterKeys: MasterKeys | undefined;
  readonly #current = new WeakMap<PreparedToken, Opened>();
  readonly #previous = new WeakMap<PreparedToken, Opened>();
  readonly #report: (message: string) => void;

  /** `report` hears one sentence for the operator when a secret cannot be opened, once a record. */
  constructor(masterKeys: MasterKeys | undefined, report: (message: string) => void) {
    this.#masterKeys = masterKeys;
    this.#report = report;
  }

  /** The secret of a token in HMAC mode. */
  current(token: PreparedToken): Opened {
    return this.#current.get(token) ?? this.#open(token, token.record.sealedSecret, this.#current);
  }

  /** The secret before the last rotation, while the record still has it; its grace is for the caller to check. */
  previous(token: PreparedToken): Opened | undefined {
    const sealed = token.record.previousSealedSecret;
    return sealed === null ? undefined : (this.#previous.get(token) ?? this.#open(token, sealed, this.#previous));
  }

  #open(token: PreparedToken, sealed: string | null, kept: WeakMap<PreparedToken, Opened>): Opened {
    const opened = this.#read(token, sealed);
    kept.set(token, opened);
    return opened;
  }

  #read(token: PreparedToken, sealed: string | null): Opened {
    if (sealed === null) {
      this.#report(`Token ${token.id} has no secret in its record: rotate the token.`);
      return unreadable;
    }
    if (this.#masterKeys === undefined) {
      this.#report(`Token ${token.id} signs its requests: set TOLLKEEPER_MASTER_KEY to read its secret.`);
      return unreadable;
    }
    const opened = openSecret(sealed, token.id, this.#masterKeys);
    if (opened.secret !== undefined) return hmacKey(opened.secret);
    this.#report(opened.message);
    return unreadable;
  }
}
