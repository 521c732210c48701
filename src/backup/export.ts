/**
 * Writes a backup: every tenant with its tokens and every user with their keys, a page at a time, in constant memory, while requests and changes go on.
 *
 * Each record is as it was at one moment; together they are no snapshot. What was there from the beginning to the end of
 * the export is in the backup, what was created or deleted meanwhile may be.
 */
import { createHash } from 'node:crypto';
import { allShards, keys, recordFields } from '../redis/keys.js';
import { metaFields, requireInstallation } from '../redis/meta.js';
import type { Store } from '../redis/store.js';
import {
  backupFormat,
  backupVersion,
  type BackupCounts,
  type BackupEntry,
  type BackupHeader,
  type RecordEntry,
} from './format.js';
import { orderedMembers } from './ordered-members.js';

/** Records read together. */
const pageRecords = 200;

export interface ExportOptions {
  /** Version of this program. */
  readonly tollkeeper: string;
  /** ms since 1970. */
  readonly nowMs: number;
  /** Text of the policy file to put in. */
  readonly policy: string | undefined;
  /** Takes a piece of the file; the next one waits for it. */
  readonly write: (text: string) => Promise<void>;
  /** Hears of every page. */
  readonly progress: (counts: BackupCounts) => void;
}

/**
 * Writes the whole file and answers how many records it holds.
 * @throws StoreUnavailableError; OperatorError when there is nothing of ours in this Redis.
 */
export async function exportBackup(store: Store, options: ExportOptions): Promise<BackupCounts> {
  const hash = createHash('sha256');
  const counts: Record<string, number> = { tenant: 0, token: 0 };
  const write = async (lines: readonly object[]): Promise<void> => {
    const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
    hash.update(text);
    await options.write(text);
  };
  const writeEntries = async (entries: readonly BackupEntry[]): Promise<void> => {
    await write(entries);
    for (const { kind } of entries) counts[kind] = (counts[kind] ?? 0) + 1;
    options.progress(counts);
  };
  await write([await headerOf(store, options)]);
  await writeEntries(await shardEntries(store));
  for await (const slug of membersOf(store, keys.tenants())) {
    const tenant = await recordEntries(store, 'tenant', [keys.tenant(slug)]);
    // Listed without a record: its creation or deletion was cut short.
    if (tenant.length === 0) continue;
    await writeEntries(tenant);
    let page: string[] = [];
    const writePage = async (): Promise<void> => {
      await writeEntries(await recordEntries(store, 'token', page));
      page = [];
    };
    for await (const id of membersOf(store, keys.tenantTokens(slug))) {
      if (page.push(keys.token(id)) === pageRecords) await writePage();
    }
    if (page.length > 0) await writePage();
  }
  for await (const name of membersOf(store, keys.users())) {
    await writeEntries(await recordEntries(store, 'user', [keys.user(name)]));
    const adminKeys: string[] = [];
    for await (const id of membersOf(store, keys.userAdminKeys(name))) adminKeys.push(keys.adminKey(id));
    await writeEntries(await recordEntries(store, 'adminKey', adminKeys));
  }
  if (options.policy !== undefined) await writeEntries([{ kind: 'policy', text: options.policy }]);
  const sha256 = hash.digest('hex');
  await options.write(`${JSON.stringify({ kind: 'end', records: counts, sha256 })}\n`);
  return counts;
}

async function headerOf(store: Store, { tollkeeper, nowMs }: ExportOptions): Promise<BackupHeader> {
  const { schema, installation, createdAt } = await store.ask(() => requireInstallation(store.redis));
  return {
    format: backupFormat,
    version: backupVersion,
    tollkeeper,
    createdAt: new Date(nowMs).toISOString(),
    schema,
    installation,
    installationCreatedAt: createdAt,
  };
}

async function shardEntries(store: Store): Promise<BackupEntry[]> {
  const versions = await store.ask(() =>
    Promise.all(allShards.map((shard) => store.redis.hget(keys.meta(shard), metaFields.tenantVersion))),
  );
  return allShards.flatMap((shard, index) => {
    const tenantVersion = Number(versions[index] ?? 0);
    return tenantVersion === 0 ? [] : [{ kind: 'shard', shard, tenantVersion }];
  });
}

/** The records under these keys; those that are gone meanwhile are left out. */
async function recordEntries(
  store: Store,
  kind: RecordEntry['kind'],
  recordKeys: readonly string[],
): Promise<BackupEntry[]> {
  const found = await store.ask(() =>
    Promise.all(recordKeys.map((key) => store.redis.hmgetBuffer(key, recordFields.record, recordFields.counters))),
  );
  return found.flatMap(([json, counters]) => {
    if (!json) return [];
    const record = JSON.parse(json.toString('utf8')) as Record<string, unknown>;
    return [{ kind, record, ...(counters && counters.length > 0 ? { counters: counters.toString('base64') } : {}) }];
  });
}

async function* membersOf(store: Store, key: string): AsyncGenerator<string> {
  const members = orderedMembers(store.redis, key);
  for (;;) {
    const next = await store.ask(() => members.next());
    if (next.done === true) return;
    yield next.value;
  }
}
