/**
 * Passwords at rest: scrypt (RFC 7914) with N = 2^15, r = 8, p = 3 and a salt of 16 bytes, 32 MiB and about a quarter of a
 * second a guess. Kept as `scrypt$15$8$3$<salt>$<hash>` (base64url), so that the cost can be raised later.
 */
import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import { StoreUnavailableError } from '../redis/store.js';

/** What a hash costs; it stands in the hash, so that verifying costs the same. */
export interface PasswordCost {
  /** Binary logarithm of N. */
  readonly logN: number;
  readonly r: number;
  readonly p: number;
}

const costDefault: PasswordCost = { logN: 15, r: 8, p: 3 };
const hashBytes = 32;
/** Hashes computed at once: more would only make each of them slower, and take 32 MiB each. */
const concurrentMax = 2;
const waitingMax = 32;

let running = 0;
const waiting: (() => void)[] = [];

/** The hash to keep. Equal spellings of a text are one password (Unicode NFC, RFC 8265). */
export async function hashPassword(password: string, cost: PasswordCost = costDefault): Promise<string> {
  const salt = randomBytes(16);
  const hash = await derive(password, salt, cost);
  return `scrypt$${cost.logN}$${cost.r}$${cost.p}$${salt.toString('base64url')}$${hash.toString('base64url')}`;
}

/**
 * Whether it is the password. Undefined, for an account that does not exist, costs as much and is false.
 * @throws StoreUnavailableError when too many wait already.
 */
export async function verifyPassword(kept: string | undefined, password: string): Promise<boolean> {
  const [scheme, logN, r, p, salt = '', expected = ''] = (kept ?? (await decoy())).split('$');
  if (scheme !== 'scrypt') return false;
  const found = await derive(password, Buffer.from(salt, 'base64url'), {
    logN: Number(logN),
    r: Number(r),
    p: Number(p),
  });
  const right = Buffer.from(expected, 'base64url');
  return found.length === right.length && timingSafeEqual(found, right) && kept !== undefined;
}

let decoyHash: Promise<string> | undefined;

/** The hash of a password that nobody has. */
function decoy(): Promise<string> {
  decoyHash ??= hashPassword(randomBytes(32).toString('base64url'));
  return decoyHash;
}

async function derive(password: string, salt: Buffer, { logN, r, p }: PasswordCost): Promise<Buffer> {
  await takeTurn();
  try {
    return await new Promise((resolve, reject) => {
      const options = { N: 2 ** logN, r, p, maxmem: 256 * 2 ** logN * r };
      scrypt(password.normalize('NFC'), salt, hashBytes, options, (error, hash) => {
        if (error === null) resolve(hash);
        else reject(error);
      });
    });
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

async function takeTurn(): Promise<void> {
  if (running >= concurrentMax) {
    if (waiting.length >= waitingMax)
      throw new StoreUnavailableError('Too many passwords are being checked: try again.');
    await new Promise<void>((resolve) => {
      waiting.push(resolve);
    });
  }
  running += 1;
}
