/** Reads a whole backup before anything of it is used: is it complete, unchanged, and can this Tollkeeper use all of it. */
import type { FileHandle } from 'node:fs/promises';
import { OperatorError } from '../core/failure.js';
import { type MasterKeys, openSecret, sealingKeyId } from '../credential/sealed-secret.js';
import { shardOf } from '../redis/keys.js';
import { schemaVersion } from '../redis/meta.js';
import { isTenantSlug } from '../tenant/draft.js';
import { RecordError } from '../tenant/record-reader.js';
import { decodeTenantRecord, type TenantRecord } from '../tenant/tenant.js';
import { isTokenId } from '../token/format.js';
import { decodeTokenRecord, type TokenRecord } from '../token/token.js';
import {
  type BackupCounts,
  type BackupEnd,
  type BackupEntry,
  type BackupHeader,
  damagedLine,
  parseHeader,
  parseLine,
  type RecordEntry,
} from './format.js';
import { type AdminKeyRecord, decodeAdminKeyRecord } from '../user/admin-key.js';
import { decodeUserRecord, isUserName, type UserRecord } from '../user/user.js';
import { type Line, readLines } from './lines.js';

/**
 * How far the version of a record is raised when it is restored. A sidecar may remember a version that the record had
 * after the backup was made; a restored record must never come to that number with other contents. So far it takes a
 * million changes of one record between backup and restore.
 */
export const versionStep = 2 ** 20;
const versionMax = 2 ** 32 - 1;

export interface BackupSummary {
  readonly header: BackupHeader;
  readonly counts: BackupCounts;
  readonly sha256: string;
  readonly policy: string | undefined;
}

/**
 * @param masterKeys undefined: there are none.
 * @throws OperatorError that says what is wrong with the file, or which master keys its secrets need.
 */
export async function inspectBackup(file: FileHandle, masterKeys: MasterKeys | undefined): Promise<BackupSummary> {
  const checks = new Checks(masterKeys);
  let header: BackupHeader | undefined;
  let end: BackupEnd | undefined;
  let policy: string | undefined;
  for await (const line of readLines(file)) {
    if (end !== undefined) throw damagedLine(line.number, 'it stands behind the end');
    if (!line.isWhole) throw cut();
    if (header === undefined) {
      header = parseHeader(line.text);
      checkSchema(header);
      continue;
    }
    const parsed = parseLine(line.text, line.number);
    if (parsed.kind === 'end') {
      checkEnd(line, parsed, checks.counts);
      end = parsed;
      continue;
    }
    checks.entry(parsed, line.number);
    if (parsed.kind === 'policy') policy = parsed.text;
  }
  if (header === undefined) throw new OperatorError('The backup is an empty file: use another copy of it.');
  if (end === undefined) throw cut();
  checks.refuseMissingKeys();
  return { header, counts: checks.counts, sha256: end.sha256, policy };
}

/** The record of an entry, checked. @throws OperatorError that names the line. */
export function tenantOf(entry: RecordEntry, number: number): TenantRecord {
  return decoded(number, () => decodeTenantRecord(JSON.stringify(entry.record)));
}

/** As {@link tenantOf}. */
export function tokenOf(entry: RecordEntry, number: number): TokenRecord {
  return decoded(number, () => decodeTokenRecord(JSON.stringify(entry.record)));
}

/** As {@link tenantOf}. */
export function userOf(entry: RecordEntry, number: number): UserRecord {
  return decoded(number, () => decodeUserRecord(JSON.stringify(entry.record)));
}

/** As {@link tenantOf}. */
export function adminKeyOf(entry: RecordEntry, number: number): AdminKeyRecord {
  return decoded(number, () => decodeAdminKeyRecord(JSON.stringify(entry.record)));
}

class Checks {
  readonly counts: Record<string, number> = { tenant: 0, token: 0 };
  readonly #masterKeys: MasterKeys | undefined;
  /** Ids of master keys that are not there, and how many tokens need them. */
  readonly #missingKeys = new Map<string, number>();
  #slug = '';

  constructor(masterKeys: MasterKeys | undefined) {
    this.#masterKeys = masterKeys;
  }

  entry(entry: BackupEntry, number: number): void {
    this.counts[entry.kind] = (this.counts[entry.kind] ?? 0) + 1;
    if (!('record' in entry)) return;
    if (entry.kind === 'tenant') this.#tenant(tenantOf(entry, number), number);
    else if (entry.kind === 'token') this.#token(tokenOf(entry, number), number);
    else if (entry.kind === 'user') {
      const { name, version } = userOf(entry, number);
      if (!isUserName(name)) throw damagedLine(number, '"name" is not that of a user');
      checkVersion(version, number);
    } else {
      const { id, user } = adminKeyOf(entry, number);
      if (!isTokenId(id) || !isUserName(user)) throw damagedLine(number, '"id" or "user" is none');
    }
  }

  /** @throws OperatorError that names every master key that is needed and not there. */
  refuseMissingKeys(): void {
    if (this.#missingKeys.size === 0) return;
    const needed = [...this.#missingKeys].map(
      ([id, tokens]) => `${id} (${tokens} ${tokens === 1 ? 'token' : 'tokens'})`,
    );
    throw new OperatorError(
      `The HMAC secrets in this backup are sealed under master keys that are not in TOLLKEEPER_MASTER_KEY: ` +
        `${needed.join(', ')}. Add them to the list; nothing was restored.`,
    );
  }

  #tenant({ slug, version }: TenantRecord, number: number): void {
    if (!isTenantSlug(slug)) throw damagedLine(number, '"slug" is not that of a tenant');
    checkVersion(version, number);
    this.#slug = slug;
  }

  #token(record: TokenRecord, number: number): void {
    const { id, tenant, version } = record;
    if (tenant !== this.#slug) throw damagedLine(number, 'it does not stand behind its tenant');
    if (!isTokenId(id) || shardOf(id) !== shardOf(tenant)) throw damagedLine(number, '"id" is not one of its tenant');
    checkVersion(version, number);
    this.#secret(record, record.sealedSecret, number);
    this.#secret(record, record.previousSealedSecret, number);
  }

  #secret({ id }: TokenRecord, sealed: string | null, number: number): void {
    if (sealed === null) return;
    const keyId = sealingKeyId(sealed);
    if (keyId === '') throw damagedLine(number, 'its sealed secret is of an unknown form');
    if (this.#masterKeys?.byId.has(keyId) !== true) {
      this.#missingKeys.set(keyId, (this.#missingKeys.get(keyId) ?? 0) + 1);
      return;
    }
    // Also a key of the same id may be another one.
    const opened = openSecret(sealed, id, this.#masterKeys);
    if (opened.secret === undefined) {
      throw new OperatorError(
        `The secret of token ${id} in this backup does not open with master key ${keyId}: give the key that sealed it ` +
          'in TOLLKEEPER_MASTER_KEY; nothing was restored.',
      );
    }
  }
}

function checkSchema({ schema }: BackupHeader): void {
  if (schema <= schemaVersion) return;
  throw new OperatorError(
    `This backup was written by a newer Tollkeeper (schema ${schema}, this one knows ${schemaVersion}): upgrade first.`,
  );
}

function checkEnd(line: Line, end: BackupEnd, counts: BackupCounts): void {
  if (line.sha256Before() !== end.sha256) {
    throw new OperatorError('The backup was changed (its SHA-256 is another one): use another copy of it.');
  }
  const kinds = new Set([...Object.keys(counts), ...Object.keys(end.records)]);
  for (const kind of kinds) {
    if ((counts[kind] ?? 0) !== (end.records[kind] ?? 0)) throw damagedLine(line.number, 'its counts are not right');
  }
}

function cut(): OperatorError {
  return new OperatorError('The backup has no end, it was cut: use another copy of it.');
}

function checkVersion(version: number, number: number): void {
  if (version >= 1 && version + versionStep <= versionMax) return;
  throw damagedLine(number, '"version" is out of range');
}

function decoded<T>(number: number, decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    throw error instanceof RecordError ? damagedLine(number, error.message) : error;
  }
}
