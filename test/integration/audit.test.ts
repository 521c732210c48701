import { afterEach, describe, expect, test } from 'vitest';
import { AuditLog } from '../../src/audit/audit-log.js';
import { readAudit } from '../../src/audit/reader.js';
import type { AuditDraft } from '../../src/audit/record.js';
import { type AuditVerification, verifyAudit } from '../../src/audit/verify.js';
import { keys } from '../../src/redis/keys.js';
import { openRepositories, type Repositories } from '../support/repositories.js';
import { type RedisServer, startRedis } from '../support/redis.js';

let redis: RedisServer;
const opened: Repositories[] = [];

afterEach(async () => {
  await Promise.all(opened.splice(0).map(({ store }) => store.close()));
  await redis.stop();
});

async function open(): Promise<Repositories> {
  const repositories = await openRepositories(redis.url);
  opened.push(repositories);
  return repositories;
}

function draft(fields: Partial<AuditDraft> = {}): AuditDraft {
  return {
    result: 'done',
    action: 'token.update',
    tenant: 'acme',
    target: 'token:abc',
    actorKind: 'session',
    actor: 'ann',
    role: 'owner',
    from: '192.0.2.7',
    attempt: 0,
    details: { name: 'Zoë "quoted" \u{1f600}\n' },
    ...fields,
  };
}

/** A log with `count` records, and the repositories it was written through. */
async function filled(count: number, entriesMax = 1000): Promise<Repositories & { readonly log: AuditLog }> {
  redis = await startRedis();
  const repositories = await open();
  const log = new AuditLog(repositories.store, { entriesMax });
  for (let i = 0; i < count; i++) await log.append(draft({ target: `token:${i}` }));
  return { ...repositories, log };
}

function messages({ faults }: AuditVerification): string[] {
  return faults.map(({ message }) => message);
}

/** The entry as its stream holds it, to be written back changed. */
async function entryAt(client: Repositories['redis'], seq: number): Promise<string[]> {
  const [entry] = await client.xrange(keys.audit(), `${seq}-0`, `${seq}-0`);
  return (entry as [string, string[]])[1];
}

describe('a chain that nobody touched', () => {
  test('is intact and says where it ends, also when it is empty', async () => {
    const { store, log } = await filled(0);
    expect(await verifyAudit(store)).toMatchObject({ intact: true, records: 0 });
    const record = await log.append(draft());
    expect(await verifyAudit(store)).toMatchObject({
      intact: true,
      records: 1,
      head: { seq: 1, hash: record.hash },
      openAttempts: 0,
    });
  });

  test('stays one chain when four processes append at once', async () => {
    redis = await startRedis();
    const writers = await Promise.all(Array.from({ length: 4 }, open));
    const appended = await Promise.all(
      writers.flatMap(({ store }, writer) => {
        const log = new AuditLog(store, { entriesMax: 1000 });
        return Array.from({ length: 60 }, (_, i) => log.append(draft({ target: `token:${writer}-${i}` })));
      }),
    );
    expect(new Set(appended.map(({ seq }) => seq)).size).toBe(240);
    const { store } = writers[0] as Repositories;
    expect(await verifyAudit(store)).toMatchObject({ intact: true, records: 240, lastSeq: 240 });
  });

  test('survives retention: what is left follows the anchor, and the stream keeps its bound', async () => {
    const { store, redis: client } = await filled(70, 50);
    expect(await client.xlen(keys.audit())).toBe(50);
    expect(await verifyAudit(store)).toMatchObject({ intact: true, firstSeq: 21, lastSeq: 70, records: 50 });
  });

  test('goes on after its head was lost', async () => {
    const { store, redis: client, log } = await filled(3);
    await client.del(keys.auditHead());
    await log.append(draft());
    expect(await verifyAudit(store)).toMatchObject({ intact: true, records: 4 });
  });

  test('counts the attempts that have no outcome', async () => {
    const { store, log } = await filled(0);
    const first = await log.append(draft({ result: 'attempted' }));
    await log.append(draft({ result: 'attempted' }));
    await log.append(draft({ result: 'done', attempt: first.seq }));
    expect(await verifyAudit(store)).toMatchObject({ intact: true, openAttempts: 1 });
  });
});

describe('verification finds', () => {
  test('a record whose text was changed', async () => {
    const { store, redis: client } = await filled(0);
    const log = new AuditLog(store, { entriesMax: 1000 });
    const written: string[][] = [];
    for (let i = 0; i < 5; i++) await log.append(draft());
    for (let seq = 1; seq <= 5; seq++) written.push(await entryAt(client, seq));
    for (const field of ['at', 'actor', 'result', 'details', 'from', 'tenant', 'target', 'action', 'role', 'attempt']) {
      await client.del(keys.audit());
      for (const [index, fields] of written.entries()) {
        const changed = [...fields];
        if (index === 2) changed[changed.indexOf(field) + 1] = '7';
        await client.xadd(keys.audit(), `${index + 1}-0`, ...changed);
      }
      expect(messages(await verifyAudit(store))).toEqual([
        'Record 3 was changed: its hash is not that of what it says.',
      ]);
    }
  });

  test('a record that was taken out', async () => {
    const { store, redis: client } = await filled(5);
    await client.xdel(keys.audit(), '3-0');
    expect(messages(await verifyAudit(store))).toEqual(['Record 3 is missing.']);
  });

  test('records that changed places', async () => {
    const { store, redis: client } = await filled(4);
    const [second, third] = [await entryAt(client, 2), await entryAt(client, 3)];
    const [first, fourth] = [await entryAt(client, 1), await entryAt(client, 4)];
    await client.del(keys.audit());
    for (const [index, fields] of [first, third, second, fourth].entries()) {
      await client.xadd(keys.audit(), `${index + 1}-0`, ...fields);
    }
    expect((await verifyAudit(store)).faults.map(({ seq }) => seq)).toEqual(expect.arrayContaining([2, 3, 4]));
  });

  test('records cut off at the end, at the beginning, and altogether', async () => {
    const { store, redis: client } = await filled(5);
    await client.xdel(keys.audit(), '4-0', '5-0');
    expect(messages(await verifyAudit(store))).toEqual(['Record 4 and all up to 5 are missing at the end.']);
    await client.xdel(keys.audit(), '1-0');
    expect(messages(await verifyAudit(store))).toEqual([
      'Record 1 is missing.',
      'Record 4 and all up to 5 are missing at the end.',
    ]);
    await client.del(keys.audit());
    expect(messages(await verifyAudit(store))).toEqual(['Record 1 and all up to 5 are missing at the end.']);
  });

  test('a whole chain that was written anew, when an earlier head is known', async () => {
    const { store, redis: client } = await filled(5);
    const { head } = await verifyAudit(store);
    await client.del(keys.audit(), keys.auditHead());
    const forged = new AuditLog(store, { entriesMax: 1000 });
    for (let i = 0; i < 6; i++) await forged.append(draft());
    expect((await verifyAudit(store)).intact).toBe(true);
    expect(messages(await verifyAudit(store, head))).toEqual(['Record 5 is another one than the head given.']);
    await client.del(keys.audit(), keys.auditHead());
    expect(messages(await verifyAudit(store, head))).toEqual(['Record 5 was the head given and is missing.']);
  });
});

test('pages are newest first, and every filter holds', async () => {
  const { store, log } = await filled(7);
  await log.append(draft({ tenant: 'globex', action: 'tenant.create', actor: 'bob', result: 'refused' }));
  const page = await readAudit(store, {}, 2, 3);
  expect([page.total, page.records.map(({ seq }) => seq)]).toEqual([8, [5, 4, 3]]);
  expect((await readAudit(store, {}, 9, 3)).records).toEqual([]);
  for (const filter of [
    { tenant: 'globex' },
    { action: 'tenant' },
    { action: 'tenant.create' },
    { actor: 'bob' },
    { result: 'refused' },
  ]) {
    const found = await readAudit(store, filter, 1, 3);
    expect([filter, found.total, found.records.map(({ seq }) => seq)]).toEqual([filter, 1, [8]]);
  }
  const filtered = await readAudit(store, { tenant: 'acme' }, 2, 3);
  expect([filtered.total, filtered.records.map(({ seq }) => seq)]).toEqual([7, [4, 3, 2]]);
  expect(filtered.records[0]?.details).toEqual(draft().details);
});

test('a full Redis still takes records, so that a revocation can be recorded', async () => {
  const { store, redis: client, log } = await filled(1);
  await client.config('SET', 'maxmemory', '1');
  await expect(client.set('x', 'y')).rejects.toThrow(/OOM/);
  await log.append(draft());
  expect(await verifyAudit(store)).toMatchObject({ intact: true, records: 2 });
});
