import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type BackupSummary, inspectBackup } from '../../../src/backup/inspect.js';
import { drawTokenId } from '../../../src/token/format.js';
import { aTokenRecord } from '../token/records.js';

const header = {
  format: 'tollkeeper-backup',
  version: 1,
  tollkeeper: '0.1.0',
  createdAt: '2026-01-01T00:00:00.000Z',
  schema: 1,
  installation: 'an-installation',
  installationCreatedAt: 1,
};
const tenant = {
  slug: 'acme',
  name: 'acme',
  state: 'active',
  maxTokens: 25,
  requireHttps: false,
  rateLimit: null,
  createdAt: 1,
  version: 1,
};
const token = aTokenRecord({ id: drawTokenId('acme'), tenant: 'acme' });
const shard = { kind: 'shard', shard: '3f', tenantVersion: 7 };

type Entry = Readonly<Record<string, unknown>>;
const tenantEntry = (fields: object = {}): Entry => ({ kind: 'tenant', record: { ...tenant, ...fields } });
const tokenEntry = (fields: object = {}): Entry => ({ kind: 'token', record: { ...token, ...fields } });
const sound: readonly Entry[] = [shard, tenantEntry(), tokenEntry(), { kind: 'policy', text: 'policy: {}' }];

/** A backup with these entries, complete in itself. */
function backup(entries: readonly Entry[], first: object = header): string {
  const body = [first, ...entries].map((line) => `${JSON.stringify(line)}\n`).join('');
  const records: Record<string, number> = {};
  for (const { kind } of entries) records[String(kind)] = (records[String(kind)] ?? 0) + 1;
  const sha256 = createHash('sha256').update(body).digest('hex');
  return `${body}${JSON.stringify({ kind: 'end', records, sha256 })}\n`;
}

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'tk-inspect-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

async function inspected(contents: string | Buffer): Promise<BackupSummary> {
  const path = join(dir, 'backup');
  writeFileSync(path, contents);
  const file = await open(path);
  try {
    return await inspectBackup(file, undefined);
  } finally {
    await file.close();
  }
}

test('a sound backup says what it holds', async () => {
  const { counts, header: read, policy } = await inspected(backup(sound));
  expect(counts).toEqual({ shard: 1, tenant: 1, token: 1, policy: 1 });
  expect([read.installation, policy]).toEqual(['an-installation', 'policy: {}']);
});

describe('a file is refused that', () => {
  const good = backup(sound);
  test.each<[string, string, string | Buffer]>([
    ['had a byte changed', 'SHA-256', good.replace('"name":"acme"', '"name":"acmE"')],
    ['was cut in the middle of a line', 'was cut', good.slice(0, good.length / 2)],
    ['was cut behind a line', 'was cut', good.slice(0, good.indexOf('{"kind":"token"'))],
    ['was cut before its last line break', 'was cut', good.trimEnd()],
    ['goes on behind its end', 'behind the end', `${good}{}\n`],
    ['is two in one', 'behind the end', good + good],
    ['is empty', 'empty file', ''],
    ['is another file', 'no backup of Tollkeeper', '{"a":1}\n'],
    ['is no text', 'no backup of Tollkeeper', Buffer.concat([randomBytes(1000), Buffer.from('\n')])],
    ['has a format to come', 'format version 2', backup(sound, { ...header, version: 2 })],
    ['has a schema to come', 'newer Tollkeeper', backup(sound, { ...header, schema: 2 })],
    ['has no installation', '"installation"', backup(sound, { ...header, installation: 7 })],
    ['has a record of an unknown kind', 'Line 2', backup([{ kind: 'robot' }])],
    ['has a token without its tenant', 'behind its tenant', backup([tokenEntry()])],
    ['has a token behind another tenant', 'behind its tenant', backup([tenantEntry({ slug: 'globex' }), tokenEntry()])],
    ['has a slug that could leave its key', '"slug"', backup([tenantEntry({ slug: 'a:{b}' })])],
    ['has an id that could leave its key', '"id"', backup([tenantEntry(), tokenEntry({ id: '{x}:9012345' })])],
    ['has an id of another shard', '"id"', backup([tenantEntry(), tokenEntry({ id: drawTokenId('globex') })])],
    ['has a field of the wrong type', '"maxTokens"', backup([tenantEntry({ maxTokens: 'x' })])],
    ['has a version that cannot be raised', '"version"', backup([tenantEntry({ version: 2 ** 32 - 1 })])],
    ['has a secret of an unknown form', 'sealed secret', backup([tenantEntry(), tokenEntry({ sealedSecret: 'v9.x' })])],
    ['has counters that are none', '"counters"', backup([{ ...tenantEntry(), counters: '!' }])],
    ['counts wrongly', 'counts', good.replace('"token":1', '"token":2')],
  ])('%s', async (_, complaint, contents) => {
    const failure: unknown = await inspected(contents).catch((error: unknown) => error);
    expect(failure).toMatchObject({ name: 'OperatorError', message: expect.stringContaining(complaint) });
    expect((failure as Error).message).not.toContain('\n');
  });
});

test('lines may be long and need not end where a read ends', async () => {
  const entries = Array.from({ length: 3000 }, () => tokenEntry({ description: 'ü'.repeat(100) }));
  const long = { kind: 'policy', text: 'x'.repeat(1_000_000) };
  expect((await inspected(backup([tenantEntry(), ...entries, long]))).counts.token).toBe(3000);
  await expect(inspected(`${JSON.stringify(header)}\n${'x'.repeat(17 * 1024 * 1024)}`)).rejects.toThrow('16 MiB');
});
