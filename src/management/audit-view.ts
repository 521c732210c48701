/** What is shown of an audit record. */
import type { ActorKind, AuditRecord, AuditResult } from '../audit/record.js';
import type { Principal } from './principal.js';

export interface AuditView {
  readonly seq: number;
  /** RFC 3339. */
  readonly at: string;
  readonly actor: {
    readonly kind: ActorKind;
    readonly name: string;
    readonly role: string;
    /** Address of the client, '' for a command. */
    readonly address: string;
  };
  readonly action: string;
  /** Slug, '' when it is about none. */
  readonly tenant: string;
  readonly target: string;
  readonly result: AuditResult;
  /** The attempt whose outcome this is; null: it is none. */
  readonly attempt: number | null;
  readonly details: Readonly<Record<string, unknown>>;
  readonly hash: string;
}

/** An owner is not shown where operators work from. */
export function auditView(record: AuditRecord, principal: Principal): AuditView {
  const hidden = principal.role === 'owner' && record.role !== 'owner';
  return {
    seq: record.seq,
    at: new Date(record.at).toISOString(),
    actor: { kind: record.actorKind, name: record.actor, role: record.role, address: hidden ? '' : record.from },
    action: record.action,
    tenant: record.tenant,
    target: record.target,
    result: record.result,
    attempt: record.attempt === 0 ? null : record.attempt,
    details: record.details,
    hash: record.hash,
  };
}
