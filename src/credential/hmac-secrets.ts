/**
 * HMAC secrets opened for use. Each is kept as long as the prepared record it came from, so a rotated secret is gone
 * with its record and opening costs nothing on the hot path.
 */
import type { KeyObject } from 'node:crypto';
import type { PreparedToken } from '../token/cache.js';
import { hmacKey } from './hmac.js';
import { type MasterKeys, openSecret } from './sealed-secret.js';

export class HmacSecrets {
  readonly #masterKeys: MasterKeys | undefined;
  readonly #current = new WeakMap<PreparedToken, KeyObject>();
  readonly #previous = new WeakMap<PreparedToken, KeyObject>();
  readonly #unreadable: (message: string) => void;

  /** `unreadable` hears one sentence for the operator when a secret cannot be opened. */
  constructor(masterKeys: MasterKeys | undefined, unreadable: (message: string) => void) {
    this.#masterKeys = masterKeys;
    this.#unreadable = unreadable;
  }

  /** The secret of a token in HMAC mode; undefined when this process cannot open it: an outage, never a 401. */
  current(token: PreparedToken): KeyObject | undefined {
    return this.#current.get(token) ?? this.#open(token, token.record.sealedSecret, this.#current);
  }

  /** The secret before the last rotation, while the record still has it; its grace is for the caller to check. */
  previous(token: PreparedToken): KeyObject | undefined {
    const sealed = token.record.previousSealedSecret;
    return sealed === null ? undefined : (this.#previous.get(token) ?? this.#open(token, sealed, this.#previous));
  }

  #open(token: PreparedToken, sealed: string | null, kept: WeakMap<PreparedToken, KeyObject>): KeyObject | undefined {
    if (this.#masterKeys === undefined || sealed === null) {
      this.#unreadable(`Token ${token.id} signs its requests: set TOLLKEEPER_MASTER_KEY to read its secret.`);
      return undefined;
    }
    const opened = openSecret(sealed, token.id, this.#masterKeys);
    if (opened.secret === undefined) {
      this.#unreadable(opened.message);
      return undefined;
    }
    const key = hmacKey(opened.secret);
    kept.set(token, key);
    return key;
  }
}
