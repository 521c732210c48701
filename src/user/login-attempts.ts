/**
 * Limits on guessing passwords (docs/adr/0012). An attempt is counted before the password is looked at, so that many at
 * once cannot slip through, and taken back when it was right.
 *
 * 5 of an account from one address and 30 from one address in 15 minutes, 20 of an account from anywhere in an hour. An
 * address that the account was used from in the last 90 days is held to the first of them alone: somebody who guesses from
 * elsewhere cannot lock its holder out.
 */
import { createHash } from 'node:crypto';
import { failureBucket } from '../http/forwarded.js';
import { keys } from '../redis/keys.js';
import type { RunScript, ScriptContract } from '../redis/scripts.js';
import type { Store } from '../redis/store.js';

/** Contracts of this file's scripts. */
/** Contracts of this file’s scripts. */
export const loginScripts = {
  charge: {
    name: 'login-charge',
    keys: ['pair', 'address', 'account', 'known'],
    argv: [
      'place',
      'nowMs',
      'pairMax',
      'pairWindowMs',
      'addressMax',
      'addressWindowMs',
      'accountMax',
      'accountWindowMs',
    ],
  },
  succeeded: {
    name: 'login-succeeded',
    keys: ['pair', 'address', 'account', 'known'],
    argv: ['place', 'nowMs', 'knownMs', 'placesMax'],
  },
} as const satisfies Record<string, ScriptContract>;

const minuteMs = 60_000;
const limits = [5, 15 * minuteMs, 30, 15 * minuteMs, 20, 60 * minuteMs] as const;
const knownMs = 90 * 86_400_000;
const placesMax = 16;

export class LoginAttempts {
  readonly #charge: RunScript;
  readonly #succeeded: RunScript;
  readonly #now: () => number;

  /** `now` answers ms since 1970. */
  constructor(store: Store, now: () => number = Date.now) {
    this.#charge = store.bind(loginScripts.charge);
    this.#succeeded = store.bind(loginScripts.succeeded);
    this.#now = now;
  }

  /** Counts an attempt; answers 0, or the seconds after which it may be tried again. */
  async charge(account: string, address: string): Promise<number> {
    const { names, place } = subjectOf(account, address);
    const waitMs = Number(await this.#charge(names, [place, this.#now(), ...limits]));
    return Math.ceil(waitMs / 1000);
  }

  /** The attempt just counted was right. */
  async succeeded(account: string, address: string): Promise<void> {
    const { names, place } = subjectOf(account, address);
    await this.#succeeded(names, [place, this.#now(), knownMs, placesMax]);
  }
}

function subjectOf(account: string, address: string): { readonly names: string[]; readonly place: string } {
  const place = failureBucket(address);
  // What was typed for a name is not kept: it may be a password in the wrong field.
  const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 32);
  return {
    place,
    names: [
      keys.loginAttempts('pair', hashOf(`${account}\n${place}`)),
      keys.loginAttempts('address', hashOf(place)),
      keys.loginAttempts('account', hashOf(account)),
      keys.knownPlaces(hashOf(account)),
    ],
  };
}
