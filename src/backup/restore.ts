/**
 * Restores a backup that was inspected.
 *
 * Algorithm: into an empty Redis the records come first and the identity of the installation last: until then sidecars
 *   answer 503, and from then on they go on by themselves (docs/adr/0016). `tk:restore` names the backup meanwhile, so
 *   that nobody begins another installation and the restore can be taken up again.
 * Concurrency: each record is one atomic write where there is none yet; doing all of it again changes nothing.
 * Failure: what was broken off is brought to its end by restoring the same file again.
 */
import type { FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { compileLimits } from '../admission/limit.js';
import { OperatorError } from '../core/failure.js';
import { allShards, keys, recordFields } from '../redis/keys.js';
import { adoptInstallation, readInstallation } from '../redis/meta.js';
import type { RunScript, ScriptContract } from '../redis/scripts.js';
import type { RecordFields, Store } from '../redis/store.js';
import { tenantLimits } from '../tenant/tenant.js';
import { foreignHash } from '../token/repository.js';
import { effectiveLimits, encodeTokenRecord, type TokenRecord } from '../token/token.js';
import { type BackupCounts, type BackupEntry, parseLine, type RecordEntry } from './format.js';
import { adminKeyOf, type BackupSummary, tenantOf, tokenOf, userOf, versionStep } from './inspect.js';
import { readLines } from './lines.js';

/** Contract of lua/record-restore.lua. */
const recordRestoreContract: ScriptContract = {
  name: 'record-restore',
  keys: ['record', 'index...'],
  argv: ['member', 'score', 'fieldAndValue...'],
};

/** Records that are written together. */
const pageRecords = 250;

export interface RestoreReport {
  /** Written now, by kind. */
  readonly restored: BackupCounts;
  /** There already, by kind; they were left as they are. */
  readonly present: BackupCounts;
  /** Tokens left out because another token has their imported secret by now. */
  readonly conflicts: readonly string[];
}

export interface RestoreOptions {
  /** Add what is missing to an installation that is there, instead of restoring into an empty Redis. */
  readonly merge: boolean;
  /** Hears of every page. */
  readonly progress: (report: RestoreReport) => void;
  /** Ends it between two pages. */
  readonly signal: AbortSignal;
}

interface Numbered {
  readonly number: number;
  readonly entry: BackupEntry;
}

/**
 * @throws OperatorError when the Redis is not empty (or, with `merge`, is), when another backup is being restored into
 *   it, and when it was ended by the signal; StoreUnavailableError and NotConfirmedError as {@link Store}. Restoring the
 *   same file again goes on then.
 */
export async function restoreBackup(
  store: Store,
  file: FileHandle,
  summary: BackupSummary,
  options: RestoreOptions,
): Promise<RestoreReport> {
  return store.confirmed('the restored records', async () => {
    const signaturesFrom = options.merge ? await beginMerge(store) : await beginRestore(store, summary);
    const restore = new Restore(store, signaturesFrom, options.merge);
    await restore.all(file, summary, options);
    if (!options.merge) {
      await adoptInstallation(
        store,
        { installation: summary.header.installation, createdAt: summary.header.installationCreatedAt },
        restore.tenantVersions(),
      );
      await store.write(keys.restore(), (redis) => redis.del(keys.restore()));
    }
    await untilRedisTime(store, signaturesFrom);
    return restore.report;
  });
}

/** What says which backup is being restored, and since when. */
const restoreFields = { sha256: 'sha256', startedAt: 'startedAt' } as const;

/** Announces the restore and answers the time from which signatures are accepted, ms since 1970. */
async function beginRestore(store: Store, { sha256, header }: BackupSummary): Promise<number> {
  const { redis } = store;
  const found = await store.ask(() => redis.hget(keys.restore(), restoreFields.sha256));
  if (found !== null && found !== sha256) {
    throw new OperatorError(
      'Another backup is being restored into this Redis: bring that to its end first, or empty the Redis.',
    );
  }
  if (found === null) await refuseFull(store);
  const now = await redisTimeMs(store);
  await store.write(keys.restore(), (writer) => writer.hsetnx(keys.restore(), restoreFields.startedAt, now));
  await store.write(keys.restore(), (writer) => writer.hsetnx(keys.restore(), restoreFields.sha256, sha256));
  // Looked at again now that it is announced: somebody may have begun an installation or another restore meanwhile.
  const [announced, startedAt] = await store.ask(() =>
    redis.hmget(keys.restore(), restoreFields.sha256, restoreFields.startedAt),
  );
  if (announced !== sha256) {
    throw new OperatorError('Somebody else began to restore another backup into this Redis: look who did.');
  }
  const installation = await store.ask(() => redis.hget(keys.meta(allShards[0] as string), 'installation'));
  if (installation !== null && installation !== header.installation) {
    await store.write(keys.restore(), (writer) => writer.del(keys.restore()));
    throw notEmpty();
  }
  return wholeSecondAfter(Number(startedAt));
}

async function beginMerge(store: Store): Promise<number> {
  const installation = await store.ask(() => readInstallation(store.redis));
  if (installation === null) {
    throw new OperatorError('This Redis is empty: restore into it without --merge.');
  }
  return wholeSecondAfter(await redisTimeMs(store));
}

async function refuseFull(store: Store): Promise<void> {
  const [installation, tenants] = await store.ask(() =>
    Promise.all([readInstallation(store.redis), store.redis.zcard(keys.tenants())]),
  );
  if (installation !== null || tenants > 0) throw notEmpty();
}

function notEmpty(): OperatorError {
  return new OperatorError(
    'This Redis is not empty, and what is there would be lost: restore into an empty one, or add what is missing with --merge.',
  );
}

/** `left out`: it is not to be restored; for a token, its imported secret is another's by now. */
type Outcome = 'written' | 'present' | 'left out';

class Restore {
  readonly #store: Store;
  readonly #merge: boolean;
  readonly #signaturesFrom: number;
  readonly #write: RunScript;
  readonly #restored: Record<string, number> = { tenant: 0, token: 0 };
  readonly #present: Record<string, number> = { tenant: 0, token: 0 };
  readonly #conflicts: string[] = [];
  readonly #tenantVersions = new Map<string, number>();

  constructor(store: Store, signaturesFrom: number, merge: boolean) {
    this.#store = store;
    this.#merge = merge;
    this.#signaturesFrom = signaturesFrom;
    this.#write = store.bind(recordRestoreContract);
  }

  get report(): RestoreReport {
    return { restored: this.#restored, present: this.#present, conflicts: this.#conflicts };
  }

  /** Higher than any that a tenant can have had when the data were lost. */
  tenantVersions(): ReadonlyMap<string, number> {
    return new Map(allShards.map((shard) => [shard, (this.#tenantVersions.get(shard) ?? 0) + versionStep]));
  }

  async all(file: FileHandle, { sha256 }: BackupSummary, { progress, signal }: RestoreOptions): Promise<void> {
    let page: Numbered[] = [];
    const writePage = async (): Promise<void> => {
      if (signal.aborted) throw brokenOff();
      await Promise.all(page.map((numbered) => this.#one(numbered)));
      page = [];
      progress(this.report);
    };
    for await (const line of readLines(file)) {
      if (line.number === 1) continue;
      const parsed = parseLine(line.text, line.number);
      if (parsed.kind === 'end') {
        // The file may have been changed since it was inspected; nothing is complete before adoptInstallation.
        if (parsed.sha256 === sha256 && line.sha256Before() === sha256) break;
        throw new OperatorError('The backup was changed while it was being restored: use another copy of it.');
      }
      if (parsed.kind === 'shard') this.#tenantVersions.set(parsed.shard, parsed.tenantVersion);
      else if (parsed.kind !== 'policy') page.push({ number: line.number, entry: parsed });
      if (page.length === pageRecords) await writePage();
    }
    if (page.length > 0) await writePage();
  }

  async #one({ number, entry }: Numbered): Promise<void> {
    if (!('record' in entry)) return;
    const outcome = await this.#record(entry, number);
    if (outcome === 'left out') return;
    const counts = outcome === 'written' ? this.#restored : this.#present;
    counts[entry.kind] = (counts[entry.kind] ?? 0) + 1;
  }

  #record(entry: RecordEntry, number: number): Promise<Outcome> {
    if (entry.kind === 'tenant') return this.#tenant(entry, number);
    if (entry.kind === 'token') return this.#token(entry, number);
    return entry.kind === 'user' ? this.#user(entry, number) : this.#adminKey(entry, number);
  }

  async #tenant(entry: RecordEntry, number: number): Promise<Outcome> {
    const tenant = tenantOf(entry, number);
    const { slug, createdAt, maxTokens, state } = tenant;
    const version = tenant.version + versionStep;
    // Listed first, as at its creation.
    await this.#store.write(keys.tenants(), (redis) => redis.zadd(keys.tenants(), 'NX', createdAt, slug));
    const fields = {
      version,
      record: JSON.stringify({ ...entry.record, version }),
      limits: compileLimits(tenantLimits(tenant)),
      maxTokens,
      state,
      ...countersOf(entry),
    };
    return this.#writeRecord([keys.tenant(slug)], '', 0, fields);
  }

  async #token(entry: RecordEntry, number: number): Promise<Outcome> {
    const token = tokenOf(entry, number);
    const { id, tenant, createdAt, mode } = token;
    if (token.foreign && !(await this.#claim(token))) {
      this.#conflicts.push(id);
      return 'left out';
    }
    const version = token.version + versionStep;
    const floor = mode === 'hmac' ? { signaturesFrom: this.#signaturesFrom } : {};
    const fields: RecordFields = {
      version,
      record: encodeTokenRecord({ ...token, version, ...floor }, JSON.stringify(entry.record)),
      limits: compileLimits(effectiveLimits(token)),
      ...countersOf(entry),
    };
    return this.#writeRecord([keys.token(id), keys.tenantTokens(tenant)], id, createdAt, fields);
  }

  /** Not merged: who was taken away on purpose must not come back by the way. */
  async #user(entry: RecordEntry, number: number): Promise<Outcome> {
    const { name, createdAt, version: before } = userOf(entry, number);
    if (this.#merge) return 'left out';
    const version = before + versionStep;
    const fields = { version, record: JSON.stringify({ ...entry.record, version }) };
    return this.#writeRecord([keys.user(name), keys.users()], name, createdAt, fields);
  }

  /** As {@link #user}. One that has ended by now is left out. */
  async #adminKey(entry: RecordEntry, number: number): Promise<Outcome> {
    const { id, user, expiresAt } = adminKeyOf(entry, number);
    if (this.#merge || expiresAt <= this.#signaturesFrom) return 'left out';
    const [key, index] = [keys.adminKey(id), keys.userAdminKeys(user)];
    const fields = { version: 1, record: JSON.stringify(entry.record) };
    const outcome = await this.#writeRecord([key, index], id, expiresAt, fields);
    await this.#store.write(key, (redis) => redis.pexpireat(key, expiresAt));
    // The index goes with the last of its keys.
    await this.#store.write(index, async (redis) => {
      if ((await redis.pexpireat(index, expiresAt, 'NX')) === 0) await redis.pexpireat(index, expiresAt, 'GT');
    });
    return outcome;
  }

  async #writeRecord(
    scriptKeys: readonly string[],
    member: string,
    score: number,
    fields: RecordFields,
  ): Promise<Outcome> {
    const reply = await this.#write(scriptKeys, [member, score, ...Object.entries(fields).flat()]);
    return reply === 1 ? 'written' : 'present';
  }

  /** The mapping of an imported secret comes before its token; false: a token that is there has it. */
  async #claim(token: TokenRecord): Promise<boolean> {
    const sha256 = foreignHash(token);
    if (sha256 === null) return true;
    const { redis } = this.#store;
    const key = keys.foreign(sha256);
    const holder = await this.#store.write(key, (writer) => writer.set(key, token.id, 'NX', 'GET'));
    if (holder === null || holder === token.id) return true;
    if (await this.#store.ask(() => redis.exists(keys.token(holder)))) return false;
    await this.#store.write(key, (writer) => writer.set(key, token.id));
    return true;
  }
}

function countersOf({ counters }: RecordEntry): RecordFields {
  return counters === undefined ? {} : { [recordFields.counters]: Buffer.from(counters, 'base64') };
}

function brokenOff(): OperatorError {
  return new OperatorError('The restore was broken off: restore the same file again to bring it to its end.');
}

async function redisTimeMs(store: Store): Promise<number> {
  const [seconds, microseconds] = await store.ask(() => store.redis.time());
  return Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000);
}

/** Timestamps of signatures are whole seconds: the first that cannot have been used before. */
function wholeSecondAfter(timeMs: number): number {
  return (Math.floor(timeMs / 1000) + 1) * 1000;
}

/** Until what is signed from now on is accepted: less than a second. */
async function untilRedisTime(store: Store, timeMs: number): Promise<void> {
  for (let now = await redisTimeMs(store); now < timeMs; now = await redisTimeMs(store)) await delay(timeMs - now);
}
