/**
 * The file of a backup: JSON, one object a line (NDJSON), UTF-8.
 *
 * The first line says what it is. Then, in this order: the counters of shards, each tenant with its tokens behind it,
 * users with their personal admin keys, and what else there is. The last line (`end`) counts the records and holds the SHA-256 of every byte before it: a file
 * that was cut or changed is found before anything of it is used. Records stand as they lie in Redis: secrets are
 * SHA-256 hashes (Bearer) or sealed under a master key (HMAC).
 */
import { z } from 'zod';
import { OperatorError } from '../core/failure.js';

export const backupFormat = 'tollkeeper-backup';
/** Raised when an older Tollkeeper could no longer restore what is written. */
export const backupVersion = 1;

const count = z.int().min(0);
const versionMax = 0xffff_ffff;

const headerLine = z.looseObject({
  format: z.literal(backupFormat),
  version: z.int(),
  /** Version of the program that wrote it. */
  tollkeeper: z.string(),
  /** RFC 3339. */
  createdAt: z.string(),
  /** Of keys and records: redis/meta.ts. */
  schema: z.int(),
  installation: z.string().min(1).max(64),
  /** ms since 1970. */
  installationCreatedAt: count,
});

const entryLine = z.discriminatedUnion('kind', [
  /** Highest version of a tenant that was deleted in a shard. */
  z.strictObject({
    kind: z.literal('shard'),
    shard: z.string().regex(/^[0-3][0-9a-f]$/),
    tenantVersion: count.max(versionMax),
  }),
  /** `record` is the JSON in Redis (passwords are scrypt hashes, keys SHA-256); `counters` what its limits had counted (base64). */
  z.strictObject({
    kind: z.enum(['tenant', 'token', 'user', 'adminKey']),
    record: z.record(z.string(), z.unknown()),
    counters: z.base64().optional(),
  }),
  /** The text of the policy file; it is not kept in Redis. */
  z.strictObject({ kind: z.literal('policy'), text: z.string() }),
]);

const endLine = z.strictObject({
  kind: z.literal('end'),
  records: z.record(z.string(), count),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});

export type BackupHeader = z.output<typeof headerLine>;
export type BackupEntry = z.output<typeof entryLine>;
/** An entry that holds a record. */
export type RecordEntry = Extract<BackupEntry, { readonly record: unknown }>;
export type BackupEnd = z.output<typeof endLine>;

/** Counts of records by kind. */
export type BackupCounts = Readonly<Record<string, number>>;

/** @throws OperatorError when the line does not open a backup that this version can restore. */
export function parseHeader(line: string): BackupHeader {
  const value = parseJson(line);
  const { format, version } = (value ?? {}) as { format?: unknown; version?: unknown };
  if (format !== backupFormat) {
    throw new OperatorError('This is no backup of Tollkeeper: its first line does not say so.');
  }
  if (version !== backupVersion) {
    throw new OperatorError(
      `This backup has the format version ${String(version)}, and this Tollkeeper knows ${backupVersion}: ` +
        'restore it with the version that wrote it.',
    );
  }
  const header = headerLine.safeParse(value);
  if (header.success) return header.data;
  throw damaged(1, header.error);
}

/** @throws OperatorError when it is neither an entry nor the end; `number` counts lines from 1. */
export function parseLine(line: string, number: number): BackupEntry | BackupEnd {
  const value = parseJson(line);
  const isEnd = typeof value === 'object' && value !== null && (value as { kind?: unknown }).kind === 'end';
  const parsed = isEnd ? endLine.safeParse(value) : entryLine.safeParse(value);
  if (parsed.success) return parsed.data;
  throw damaged(number, parsed.error);
}

export function damagedLine(number: number, reason: string): OperatorError {
  return new OperatorError(`Line ${number} of the backup is damaged (${reason}): use another copy of it.`);
}

/** Never repeats what stands there. */
function damaged(number: number, error: z.ZodError): OperatorError {
  const [issue] = error.issues;
  const field = issue?.path.join('.') ?? '';
  return damagedLine(number, field === '' ? 'it is of no known kind' : `"${field}" is not as it must be`);
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
