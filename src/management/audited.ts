/**
 * No change without its record (docs/adr/0010): `attempted` is appended before a change is made, and what came of it
 * afterwards. A change whose attempt cannot be recorded is not made. One whose outcome cannot be recorded stands: its
 * attempt, which lies in the stream without an outcome, says that it may have been made.
 */
import type { AuditLog } from '../audit/audit-log.js';
import type { AuditDraft, AuditResult } from '../audit/record.js';
import { OperatorError } from '../core/failure.js';
import { NotConfirmedError, StoreUnavailableError } from '../redis/store.js';
import type { Principal } from './principal.js';

export interface AuditedChange {
  readonly action: string;
  /** Slug, '' when it is about none. */
  readonly tenant: string;
  readonly target: string;
  /** Never a secret; see {@link recordable}. */
  readonly details?: Readonly<Record<string, unknown>>;
  /** False: what a failover takes away with its record harms nobody (a login). */
  readonly mustSurvive?: boolean;
}

/** Fields whose values are nobody's business in a log; that they were set is recorded. */
const unrecordedValues = new Set(['metadata', 'description', 'subject', 'password', 'currentPassword', 'sha256']);
const valueLengthMax = 512;

/** What may be recorded of an input: its fields, with their values where they are short and say nothing private. */
export function recordable(input: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const entries = Object.entries(input).filter(([, value]) => value !== undefined);
  return Object.fromEntries(
    entries.map(([field, value]) => {
      const shown = !unrecordedValues.has(field) && JSON.stringify(value).length <= valueLengthMax;
      return [field, shown ? value : '(set)'];
    }),
  );
}

/** A single record, for what is no change of its own: somebody logged in. */
function draftOf(principal: Principal, change: AuditedChange, result: AuditResult, attempt = 0): AuditDraft {
  return {
    result,
    action: change.action,
    tenant: change.tenant,
    target: change.target,
    actorKind: principal.kind,
    actor: principal.name,
    role: principal.role,
    from: principal.address,
    attempt,
    details: change.details ?? {},
  };
}

/**
 * Makes a change between its two records and answers what it answers, when the record of its attempt is confirmed too.
 * @param outcomeLost hears of an outcome that could not be recorded.
 * @throws what `perform` throws; StoreUnavailableError, and nothing was changed, when the attempt cannot be recorded;
 *   NotConfirmedError when the change was made and a failover could take the record of its attempt.
 */
export async function audited<T>(
  log: AuditLog,
  principal: Principal,
  change: AuditedChange,
  perform: () => Promise<T>,
  outcomeLost: (change: AuditedChange, error: unknown) => void,
): Promise<T> {
  const attempt = await log.appended(draftOf(principal, change, 'attempted'));
  const conclude = async (result: AuditResult, details: Readonly<Record<string, unknown>>): Promise<void> => {
    try {
      await log.append(draftOf(principal, { ...change, details }, result, attempt.record.seq));
    } catch (error) {
      outcomeLost(change, error);
    }
  };
  let answer: T;
  try {
    answer = await perform();
    // The change first: where no replica answers, a revocation holds at once on the server that there is.
    if (change.mustSurvive !== false) await attempt.confirm();
  } catch (error) {
    await conclude(resultOf(error), { error: error instanceof Error ? error.constructor.name : 'unknown' });
    throw error;
  }
  await conclude('done', {});
  return answer;
}

function resultOf(error: unknown): AuditResult {
  if (error instanceof NotConfirmedError) return 'unconfirmed';
  if (error instanceof StoreUnavailableError || !(error instanceof OperatorError)) return 'failed';
  return 'refused';
}
