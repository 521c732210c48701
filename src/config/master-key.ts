/** The keys that seal HMAC secrets: the first seals, every one opens, so that a master key can be replaced. */
import { createHash } from 'node:crypto';

export interface MasterKey {
  /** Kept beside what the key sealed; given as `id:`, else the first 8 hex digits of the key's SHA-256. */
  readonly id: string;
  /** 32 bytes, for AES-256-GCM. */
  readonly key: Buffer;
}

/**
 * Reads `masterKey`: one or more keys separated by commas, each 32 bytes in base64 or hex, each with an optional `id:`
 * before it. Undefined when any of them is malformed or an id appears twice; never says which, it is a secret.
 */
export function parseMasterKeys(text: string): readonly MasterKey[] | undefined {
  const found: MasterKey[] = [];
  for (const item of text.split(',')) {
    const parts = /^(?:([A-Za-z0-9_-]{1,32}):)?([A-Za-z0-9+/_-]{43}=?|[0-9a-fA-F]{64})$/.exec(item.trim());
    if (parts === null) return undefined;
    const encoded = parts[2] as string;
    const key = Buffer.from(encoded, encoded.length === 64 ? 'hex' : 'base64');
    const id = parts[1] ?? createHash('sha256').update(key).digest('hex').slice(0, 8);
    if (key.length !== 32 || found.some((other) => other.id === id)) return undefined;
    found.push({ id, key });
  }
  return found;
}
