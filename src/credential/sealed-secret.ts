/**
 * HMAC secrets at rest: AES-256-GCM under a master key that Redis never sees.
 * A sealed secret is `v1.<key id>.<nonce>.<ciphertext and tag>` (base64url), with the token's id as additional data, so
 * that it opens for that token only. The key id beside it lets master keys rotate: seal with the first, open with any.
 */
import { createCipheriv, createDecipheriv, createSecretKey, randomBytes, type KeyObject } from 'node:crypto';
import { parseMasterKeys as readMasterKeys } from '../config/master-key.js';
import { OperatorError } from '../core/failure.js';

const nonceBytes = 12;
const tagBytes = 16;

interface MasterKey {
  readonly id: string;
  readonly key: KeyObject;
}

/** Keys as objects that no log line or `JSON.stringify` can show. */
export interface MasterKeys {
  /** The first of the list: new secrets are sealed with it. */
  readonly sealing: MasterKey;
  readonly byId: ReadonlyMap<string, KeyObject>;
}

/**
 * The keys of `TOLLKEEPER_MASTER_KEY` (its grammar: config/master-key.ts), ready for use.
 * @throws OperatorError (exit code 2) that names a bad entry by its place and never shows any part of it.
 */
export function parseMasterKeys(text: string): MasterKeys {
  const byId = new Map<string, KeyObject>();
  let sealing: MasterKey | undefined;
  for (const [index, entry] of text.split(',').entries()) {
    const parsed = readMasterKeys(entry)?.[0];
    if (parsed === undefined) {
      throw refuseEntry(
        index + 1,
        'must be 32 bytes in base64 or hex, with an optional `id:` before it: make one with `openssl rand -base64 32`',
      );
    }
    if (byId.has(parsed.id)) {
      throw refuseEntry(index + 1, 'has the id of an earlier one: give each key its own id and list no key twice');
    }
    const key = createSecretKey(parsed.key);
    byId.set(parsed.id, key);
    sealing ??= { id: parsed.id, key };
  }
  return { sealing: sealing as MasterKey, byId };
}

function refuseEntry(position: number, complaint: string): OperatorError {
  return new OperatorError(`Key ${position} of TOLLKEEPER_MASTER_KEY ${complaint}.`, 2);
}

/** Seals a token's secret for its record; every call draws a fresh 96-bit nonce (NIST SP 800-38D, 8.2.2). */
export function sealSecret(plaintext: string, tokenId: string, keys: MasterKeys): string {
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv('aes-256-gcm', keys.sealing.key, nonce, { authTagLength: tagBytes });
  cipher.setAAD(Buffer.from(tokenId, 'utf8'));
  const sealed = Buffer.concat([cipher.update(plaintext, 'utf8'), cipher.final(), cipher.getAuthTag()]);
  return `v1.${keys.sealing.id}.${nonce.toString('base64url')}.${sealed.toString('base64url')}`;
}

/**
 * Why a sealed secret did not open. All are faults of the platform (503), never of the caller (401).
 * - `malformed`: not of the form above, or of a later version.
 * - `unknown-key`: sealed under a master key that was not given.
 * - `tampered`: altered, of another token, or sealed under another key of the same id.
 */
type SealFailure = 'malformed' | 'unknown-key' | 'tampered';

export type OpenedSecret =
  | { readonly secret: string; readonly failure?: undefined; readonly message?: undefined }
  /** `message`: one sentence for the operator, without any secret. */
  | { readonly secret?: undefined; readonly failure: SealFailure; readonly message: string };

/** Opens what {@link sealSecret} made for this token; never throws. */
export function openSecret(sealed: string, tokenId: string, keys: MasterKeys): OpenedSecret {
  const [version, keyId, nonceText, sealedText, ...rest] = sealed.split('.');
  const nonce = decodeExactly(nonceText);
  const bytes = decodeExactly(sealedText);
  if (
    version !== 'v1' ||
    !keyId ||
    nonce?.length !== nonceBytes ||
    !bytes ||
    bytes.length < tagBytes ||
    rest.length > 0
  ) {
    return {
      failure: 'malformed',
      message: `The sealed secret of token ${tokenId} has an unknown form: rotate the token, or run the version that wrote it.`,
    };
  }
  const key = keys.byId.get(keyId);
  if (key === undefined) {
    return {
      failure: 'unknown-key',
      message: `The secret of token ${tokenId} is sealed under a master key that is not in TOLLKEEPER_MASTER_KEY: add that key to the list, or rotate the token.`,
    };
  }
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes });
  decipher.setAAD(Buffer.from(tokenId, 'utf8'));
  decipher.setAuthTag(bytes.subarray(bytes.length - tagBytes));
  try {
    const opened = Buffer.concat([decipher.update(bytes.subarray(0, bytes.length - tagBytes)), decipher.final()]);
    return { secret: opened.toString('utf8') };
  } catch {
    return {
      failure: 'tampered',
      message: `The sealed secret of token ${tokenId} was altered, or sealed for another token or under another key of the same id: rotate the token.`,
    };
  }
}

/** Id of the master key that a sealed secret needs; '' when it is malformed. Tells which keys are still in use. */
export function sealingKeyId(sealed: string): string {
  const [version, keyId = ''] = sealed.split('.', 2);
  return version === 'v1' ? keyId : '';
}

/** base64url, one spelling only: an altered character that would decode to the same bytes is refused. */
function decodeExactly(text: string | undefined): Buffer | undefined {
  if (text === undefined) return undefined;
  const bytes = Buffer.from(text, 'base64url');
  return bytes.toString('base64url') === text ? bytes : undefined;
}
