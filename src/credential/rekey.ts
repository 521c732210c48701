/**
 * Moves HMAC secrets to the first master key, so that an older one can be taken out of use, while requests go on.
 *
 * Algorithm: page by page over all tokens; what is not sealed under the first key is opened, sealed anew and written by
 *   compare-and-set, so that a rotation in between is not undone. A page is confirmed as a whole.
 * Concurrency: a sidecar that has both keys verifies every request throughout: a record changes from one to the other
 *   in one step, and its version tells the sidecar.
 * Failure: what was moved stays moved; running it again goes on with the rest. A secret that cannot be opened is left
 *   as it is and reported.
 */
import type { Store } from '../redis/store.js';
import { RecordError } from '../tenant/record-reader.js';
import { NotFoundError } from '../tenant/refusal.js';
import type { SealedSecrets, TokenRepository } from '../token/repository.js';
import { scanTokens } from '../token/scan.js';
import { decodeTokenRecord, type TokenRecord } from '../token/token.js';
import { type MasterKeys, openSecret, sealingKeyId, sealSecret } from './sealed-secret.js';

/** Tokens that are written and confirmed together. */
const pageTokens = 100;

/** Counts of tokens in mode hmac. */
export interface RekeyReport {
  /** Sealed under the first key already. */
  current: number;
  /** Sealed anew under the first key; in a dry run, those that would be. */
  moved: number;
  readonly left: LeftToken[];
}

interface LeftToken {
  readonly id: string;
  /** Why, and what to do; holds no secret. */
  readonly message: string;
}

export interface RekeyOptions {
  /** Writes nothing. */
  readonly dryRun: boolean;
  /** Hears of every page. */
  readonly progress: (report: RekeyReport) => void;
}

/** @throws StoreUnavailableError and NotConfirmedError as {@link Store}: run it again then. */
export async function rekey(
  store: Store,
  tokens: TokenRepository,
  keys: MasterKeys,
  { dryRun, progress }: RekeyOptions,
): Promise<RekeyReport> {
  const report: RekeyReport = { current: 0, moved: 0, left: [] };
  const [seconds] = await store.ask(() => store.redis.time());
  const nowMs = Number(seconds) * 1000;
  const pages = scanTokens(store.redis, pageTokens);
  for (;;) {
    const page = await store.ask(() => pages.next());
    if (page.done === true) return report;
    const stale: string[] = [];
    for (const { id, json } of page.value) {
      const found = examine(id, json, keys, nowMs);
      if (found === 'stale') stale.push(id);
      else if (found === 'current') report.current++;
      else if (found !== 'bearer') report.left.push({ id, message: found.message });
    }
    if (dryRun) report.moved += stale.length;
    else if (stale.length > 0) await move(store, tokens, keys, nowMs, stale, report);
    progress(report);
  }
}

async function move(
  store: Store,
  tokens: TokenRepository,
  keys: MasterKeys,
  nowMs: number,
  ids: readonly string[],
  report: RekeyReport,
): Promise<void> {
  await store.confirmed(`${ids.length} tokens`, async () => {
    for (const id of ids) {
      let outcome: Resealed | undefined;
      try {
        await tokens.replaceSealedSecrets(id, (record) => {
          outcome = reseal(record, keys, nowMs);
          // Somebody rotated it meanwhile, under a key that is not known here: theirs stays.
          return outcome.secrets ?? record;
        });
      } catch (error) {
        if (error instanceof NotFoundError) continue;
        throw error;
      }
      if (outcome?.message === undefined) report.moved++;
      else report.left.push({ id, message: outcome.message });
    }
  });
}

function examine(
  id: string,
  json: string,
  keys: MasterKeys,
  nowMs: number,
): 'bearer' | 'current' | 'stale' | { readonly message: string } {
  let record: TokenRecord;
  try {
    record = decodeTokenRecord(json);
  } catch (error) {
    if (!(error instanceof RecordError)) throw error;
    return { message: `Token ${id} cannot be read: ${error.message}.` };
  }
  if (record.mode !== 'hmac') return 'bearer';
  const { message, secrets } = reseal(record, keys, nowMs);
  if (message !== undefined) return { message };
  const unchanged =
    secrets.sealedSecret === record.sealedSecret && secrets.previousSealedSecret === record.previousSealedSecret;
  return unchanged ? 'current' : 'stale';
}

type Resealed =
  | { readonly secrets: SealedSecrets; readonly message?: undefined }
  | { readonly secrets?: undefined; readonly message: string };

/** The secrets of a record under the first key; a previous one under another key is dropped once its grace is over. */
function reseal(record: TokenRecord, keys: MasterKeys, nowMs: number): Resealed {
  const { id, sealedSecret, previousSealedSecret, previousUntil } = record;
  if (sealedSecret === null) return { message: `Token ${id} has no secret in its record: rotate the token.` };
  const current = resealed(sealedSecret, id, keys);
  if (current.message !== undefined) return current;
  if (previousSealedSecret === null) return { secrets: { sealedSecret: current.sealed, previousSealedSecret } };
  const isOver = previousUntil !== null && previousUntil <= nowMs;
  if (isOver && sealingKeyId(previousSealedSecret) !== keys.sealing.id) {
    return { secrets: { sealedSecret: current.sealed, previousSealedSecret: null } };
  }
  const previous = resealed(previousSealedSecret, id, keys);
  if (previous.message !== undefined) return previous;
  return { secrets: { sealedSecret: current.sealed, previousSealedSecret: previous.sealed } };
}

/** The same text when it is sealed under the first key already; opened all the same, to know that it can be. */
function resealed(
  sealed: string,
  id: string,
  keys: MasterKeys,
): { readonly sealed: string; readonly message?: undefined } | { readonly message: string } {
  const opened = openSecret(sealed, id, keys);
  if (opened.secret === undefined) return { message: opened.message };
  return { sealed: sealingKeyId(sealed) === keys.sealing.id ? sealed : sealSecret(opened.secret, id, keys) };
}
