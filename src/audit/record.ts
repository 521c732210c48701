/**
 * One record of the audit stream: who did what to what, when, from where and what came of it.
 *
 * The hash of a record is the SHA-256 of its canonical form, which holds the hash of the record before it: a record that
 * is changed, taken out or moved breaks the chain at that place.
 */
import { createHash } from 'node:crypto';

/**
 * - `attempted`: written before the change is made; a change that cannot be recorded is not made.
 * - `done`, `refused`, `failed`: what came of the attempt that `attempt` names. Failed: nothing was changed.
 * - `unconfirmed`: the change was sent and may hold.
 */
export const auditResults = ['attempted', 'done', 'refused', 'failed', 'unconfirmed'] as const;
export type AuditResult = (typeof auditResults)[number];

/** Who acts: the key of the configuration, a session, a personal key, or a command on the Redis itself. */
export const actorKinds = ['admin-key', 'session', 'personal-key', 'command'] as const;
export type ActorKind = (typeof actorKinds)[number];

/** What is written of an act; everything is plain text and holds no secret. */
export interface AuditDraft {
  readonly result: AuditResult;
  /** `token.rotate`: kind of the target and verb. */
  readonly action: string;
  /** Slug of the tenant it is about, '' when none. */
  readonly tenant: string;
  /** `token:7dK…`, `tenant:acme`, `user:ann`; ends in the colon while the name is not known. */
  readonly target: string;
  readonly actorKind: ActorKind;
  readonly actor: string;
  /** `operator` or `owner`. */
  readonly role: string;
  /** Address of the client, '' for a command. */
  readonly from: string;
  /** Sequence number of the attempt that this is the outcome of; 0: none. */
  readonly attempt: number;
  /** What was asked for. */
  readonly details: Readonly<Record<string, unknown>>;
}

export interface AuditRecord extends AuditDraft {
  /** 1 for the first record ever, then one more each. */
  readonly seq: number;
  /** ms since 1970. */
  readonly at: number;
  /** Hash of the record before, '' for the first. */
  readonly prev: string;
  /** Lower-case hex. */
  readonly hash: string;
}

/** Fields of an entry of the stream, in the order of the script's values. `seq` is the entry's id. */
export const auditFields = [
  'at',
  'result',
  'action',
  'tenant',
  'target',
  'actorKind',
  'actor',
  'role',
  'from',
  'attempt',
  'details',
  'prev',
  'hash',
] as const;

type FieldTexts = Readonly<Record<(typeof auditFields)[number], string>>;

/** An entry as it lies in the stream: all values text, whatever they say. */
export interface AuditEntry {
  readonly seq: number;
  readonly texts: FieldTexts;
}

/** The record with this draft that follows `prev`. */
export function chain(draft: AuditDraft, seq: number, prev: string, atMs: number): AuditEntry {
  const texts = {
    at: String(atMs),
    result: draft.result,
    action: draft.action,
    tenant: draft.tenant,
    target: draft.target,
    actorKind: draft.actorKind,
    actor: draft.actor,
    role: draft.role,
    from: draft.from,
    attempt: String(draft.attempt),
    details: JSON.stringify(draft.details),
    prev,
    hash: '',
  };
  return { seq, texts: { ...texts, hash: hashOf({ seq, texts }) } };
}

/**
 * SHA-256 (hex) over the canonical form of an entry: a JSON array (RFC 8259, no white space, UTF-8) of the text
 * `tollkeeper-audit-1`, the sequence number and every field but the hash, as texts, in the order of
 * {@link auditFields}.
 */
export function hashOf({ seq, texts }: AuditEntry): string {
  const values = auditFields.filter((field) => field !== 'hash').map((field) => texts[field]);
  return createHash('sha256')
    .update(JSON.stringify(['tollkeeper-audit-1', String(seq), ...values]))
    .digest('hex');
}

/** Reads an entry of the stream; fields that are missing are ''. */
export function entryOf([id, fields]: readonly [id: string, fields: readonly string[]]): AuditEntry {
  const found: Record<string, string> = {};
  for (let at = 0; at + 1 < fields.length; at += 2) found[fields[at] as string] = fields[at + 1] as string;
  const texts = Object.fromEntries(auditFields.map((field) => [field, found[field] ?? ''])) as FieldTexts;
  return { seq: Number.parseInt(id, 10), texts };
}

/** What an entry says. Whether it is true to what was written is for {@link hashOf}. */
export function recordOf({ seq, texts }: AuditEntry): AuditRecord {
  return {
    ...texts,
    seq,
    at: Number(texts.at),
    attempt: Number(texts.attempt),
    result: texts.result as AuditResult,
    actorKind: texts.actorKind as ActorKind,
    details: detailsOf(texts.details),
  };
}

function detailsOf(json: string): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(json);
    return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)
      ? (parsed as Record<string, unknown>)
      : {};
  } catch {
    return {};
  }
}
