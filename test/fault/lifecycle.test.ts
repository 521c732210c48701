/** Ends and clocks under load: what SIGTERM, SIGKILL and a wrong clock cost, judged by the history of every request. */
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createHash, createHmac } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { until } from '../support/until.js';
import { startFaultRig, type FaultRig } from './fault-rig.js';

let rig: FaultRig;
let folder = '';

afterEach(async () => {
  await rig.stop();
  if (folder !== '') rmSync(folder, { recursive: true, force: true });
  folder = '';
});

const patient = { TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000' };

/** libfaketime, preloaded into a process; undefined where it is not installed. */
function faketime(): string | undefined {
  const folders = existsSync('/usr/lib') ? readdirSync('/usr/lib') : [];
  return folders.map((name) => join('/usr/lib', name, 'faketime/libfaketime.so.1')).find((path) => existsSync(path));
}

/** As {@link requireFaketime}, for a program with an allocator that asks for the time: it gets glibc's instead. */
function requireFaketimeAndMalloc(): string {
  const library = requireFaketime();
  const folder = library.split('/').at(-3) as string;
  return `/lib/${folder}/libc_malloc_debug.so.0:${library}`;
}

function requireFaketime(): string {
  const library = faketime();
  if (library === undefined) throw new Error('libfaketime is not installed: run node scripts/setup.mjs --test as root');
  return library;
}

test('SIGTERM under load: every request that was sent is answered, logged once, and the exit code is 0', async () => {
  rig = await startFaultRig({ env: patient, sidecars: 2 });
  const [leaving] = rig.sidecars;
  const load = rig.keepSending(16);
  await rig.burst(500, '/files/a', 16);
  const exitCode = leaving?.stop();
  expect(await exitCode).toBe(0);
  const calls = await load.stop();
  // A client whose connection was not there yet meets a closed port; no request that was taken is lost.
  const unanswered = calls.filter(({ status }) => status === 0);
  expect(unanswered.filter(({ id }) => rig.history.hits.has(id))).toEqual([]);
  await rig.check({ lostEntriesMax: 0 });
});

test('SIGKILL of a sidecar: its connections are cut, the other goes on, and at most the entries not yet flushed are lost', async () => {
  rig = await startFaultRig({ env: patient, sidecars: 2 });
  const [victim, other] = rig.sidecars;
  const load = rig.keepSending(16);
  await rig.burst(1000, '/files/a', 16);
  const before = rig.history.calls.length;
  await victim?.kill();
  const sentMeanwhile = rig.history.calls.length - before;
  expect((await rig.send('/files/a', {}, 1)).status).toBe(200);
  await load.stop();
  expect(other?.alive()).toBe(true);
  // What was answered within one flush interval (100 ms) before, and what the test sent while the signal was on its way.
  const flushed = rig.history.calls.filter(({ status }) => status === 200).length;
  await rig.check({ lostEntriesMax: Math.ceil(flushed * 0.5) + sentMeanwhile });
});

/** Headers of a signed GET. */
function signed(token: { id: string; secret: string }, path: string, timestampS: number, nonce: string) {
  const body = createHash('sha256').update('').digest('hex');
  const text = ['GET', path, String(timestampS), nonce, body].join('\n');
  return {
    'x-tollkeeper-token': token.id,
    'x-tollkeeper-timestamp': String(timestampS),
    'x-tollkeeper-nonce': nonce,
    'x-tollkeeper-signature': createHmac('sha256', token.secret).update(text).digest('hex'),
  };
}

test('a sidecar whose clock is wrong by 400 s decides about signatures on the clock of Redis', async () => {
  const library = requireFaketime();
  rig = await startFaultRig({ env: patient });
  const signer = await rig.installation.token('acme', '--scopes', 'files', '--mode', 'hmac');
  const skewed = await Promise.all(
    ['-400s', '+400s'].map((offset) =>
      rig.another({ LD_PRELOAD: library, FAKETIME: offset, FAKETIME_DONT_FAKE_MONOTONIC: '1' }),
    ),
  );
  expect(skewed.map((sidecar) => sidecar.alive())).toEqual([true, true]);
  const nowS = Math.floor(Date.now() / 1000);
  for (const number of [1, 2]) {
    const ask = (timestampS: number, nonce: string): Promise<string> =>
      rig.history
        .call(rig.pool(number), '/files/a', { headers: signed(signer, '/files/a', timestampS, `${nonce}${number}`) })
        .then(({ status, slug }) => (status === 200 ? 'ok' : slug));
    expect(await ask(nowS, 'now')).toBe('ok');
    expect(await ask(nowS - 280, 'early')).toBe('ok');
    expect(await ask(nowS - 320, 'stale')).toBe('stale-timestamp');
    expect(await ask(nowS + 320, 'future')).toBe('stale-timestamp');
  }
});

test('a jump of Redis’ clock by an hour, back and forth, admits no more than the limit in real time, and freezes nothing', async () => {
  const library = requireFaketimeAndMalloc();
  folder = mkdtempSync(join(tmpdir(), 'tk-clock-'));
  const clock = join(folder, 'clock');
  const setClock = (offset: string): void => writeFileSync(clock, `${offset}\n`);
  setClock('+0');
  const limit = 20;
  rig = await startFaultRig({
    env: patient,
    token: ['--limit', String(limit), '--window', '5'],
    redis: {
      env: {
        LD_PRELOAD: library,
        FAKETIME_TIMESTAMP_FILE: clock,
        FAKETIME_NO_CACHE: '1',
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
      },
    },
  });
  const client = rig.installation.redis.client();
  const redisTimeS = async (): Promise<number> => Number((await client.time())[0]);
  for (const [offset, apartS] of [
    ['-3600s', -3600],
    ['+0', 0],
  ] as const) {
    await rig.untilAnswered(200);
    await rig.burst(40, '/files/a', 4);
    setClock(offset);
    await until(async () => Math.abs((await redisTimeS()) - Date.now() / 1000 - apartS) < 60);
    const jumpedAtMs = performance.now();
    const calls = await rig.burst(40, '/files/a', 4);
    const inWindow = performance.now() - jumpedAtMs < 5000;
    // Right after a jump back the window before still counts in whole.
    if (inWindow && apartS < 0) expect(calls.filter(({ status }) => status === 200).length).toBeLessThanOrEqual(limit);
    // It goes on within a window of real time.
    await until(async () => (await rig.send()).status === 200, 12_000);
  }
  client.disconnect();
  await rig.check();
});
