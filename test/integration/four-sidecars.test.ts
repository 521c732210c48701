/** Four sidecar processes on one Redis: limits are exact between them, and a revocation holds on all of them at once. */
import type { Pool } from 'undici';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Installation, startInstallation } from '../support/installation.js';
import type { Sidecar } from '../support/sidecar.js';
import { sample as metric } from '../support/workers.js';
import { burst, clientPool, hit, type LoadAnswer } from '../support/load.js';

const path = '/api/v1/products';

let installation: Installation;
let pools: Pool[];
let sidecars: Sidecar[];

beforeAll(async () => {
  installation = await startInstallation();
  await installation.tenant('acme', '--max-tokens', '100');
  sidecars = await Promise.all(Array.from({ length: 4 }, () => installation.sidecar()));
  pools = sidecars.map((sidecar) => clientPool(sidecar.dataUrl, 50));
});

afterAll(async () => {
  await Promise.all(pools.map((pool) => pool.close()));
  await installation.stop();
});

/** Units that Redis says are left. */
async function remainingOf(secret: string): Promise<number> {
  const self = `${(sidecars[0] as Sidecar).dataUrl}/.well-known/tollkeeper`;
  const answer = await fetch(self, { headers: { Authorization: `Bearer ${secret}` } });
  await answer.body?.cancel();
  return Number(answer.headers.get('X-RateLimit-Remaining'));
}

async function leasedRequests(): Promise<number> {
  const samples = await Promise.all(sidecars.map((sidecar) => metric(sidecar, 'tollkeeper_leased_requests_total')));
  return samples.reduce<number>((sum, sample) => sum + (sample ?? 0), 0);
}

const counts = (answers: readonly LoadAnswer[]): Record<number, number> => {
  const byStatus: Record<number, number> = {};
  for (const { status } of answers) byStatus[status] = (byStatus[status] ?? 0) + 1;
  return byStatus;
};

describe('2,000 concurrent requests against a limit of 100', () => {
  test.each(['sliding-window', 'fixed-window', 'token-bucket'])('admit exactly 100 (%s)', async (algorithm) => {
    // A window of a day: no unit comes back while the test runs. The fixed window is aligned to midnight UTC.
    const flags = ['--limit', '100', '--window', '86400', '--algorithm', algorithm];
    const token = await installation.token('acme', '--name', algorithm, ...flags);
    const upstreamBefore = installation.upstream.requests.length;
    expect(counts(await burst(pools, 2000, path, token.secret))).toEqual({ 200: 100, 429: 1900 });
    expect(installation.upstream.requests.length - upstreamBefore).toBe(100);
  });

  test('charge nothing for a refusal: a limit raised by 50 admits exactly 50 more', async () => {
    const token = await installation.token('acme', '--name', 'raised', '--limit', '100', '--window', '86400');
    expect(counts(await burst(pools, 500, path, token.secret))).toEqual({ 200: 100, 429: 400 });
    await installation.command('token', 'update', token.id, '--limit', '150', '--window', '86400');
    expect(counts(await burst(pools, 500, path, token.secret))).toEqual({ 200: 50, 429: 450 });
  });

  test('of all tokens of a tenant hold to the limit of the tenant', async () => {
    await installation.tenant('small', '--limit', '100', '--window', '86400');
    const tokens = await Promise.all(
      ['one', 'two'].map((name) => installation.token('small', '--name', name, '--limit', '90', '--window', '86400')),
    );
    const answers = await Promise.all(tokens.map((token) => burst(pools, 500, path, token.secret)));
    expect(counts(answers.flat())[200]).toBe(100);
    for (const ofOne of answers) expect(counts(ofOne)[200]).toBeLessThanOrEqual(90);
  });
});

describe('a leased token', () => {
  test('is admitted never more often than its limit, with a sidecar killed while it held units', async () => {
    const flags = ['--lease', '--limit', '2000', '--window', '86400'];
    const token = await installation.token('acme', '--name', 'leased', ...flags);
    const doomed = await installation.sidecar();
    const doomedPool = clientPool(doomed.dataUrl, 50);
    const upstreamBefore = installation.upstream.requests.length;
    let running = true;
    // It answers nobody at the end.
    const toDoomed = Array.from({ length: 8 }, async () => {
      while (running) if ((await hit(doomedPool, path, token.secret).catch(() => undefined)) === undefined) return;
    });
    const untilRefused = async (pool: Pool): Promise<void> => {
      for (let turn = 0; turn < 3000; turn += 1) if ((await hit(pool, path, token.secret)).status === 429) return;
    };
    const others = pools.flatMap((pool) => Array.from({ length: 4 }, () => untilRefused(pool)));
    await expect
      .poll(() => installation.upstream.requests.length - upstreamBefore, { interval: 5 })
      .toBeGreaterThan(700);
    await doomed.kill();
    running = false;
    await Promise.all([...others, ...toDoomed]);
    await doomedPool.close();
    const forwarded = (): number => installation.upstream.requests.length - upstreamBefore;
    // What the killed one held is lost, what the others give back is used: at last Redis itself refuses.
    await expect
      .poll(async () => {
        const answers = await Promise.all(pools.map((pool) => hit(pool, path, token.secret)));
        return [answers.every(({ status }) => status === 429), await remainingOf(token.secret)];
      })
      .toEqual([true, 0]);
    expect(forwarded()).toBeLessThanOrEqual(2000);
    expect(forwarded()).toBeGreaterThan(1500);
    expect(await leasedRequests()).toBeGreaterThan(0);
  });
});

describe.each([[], ['--lease']])('a revocation while four sidecars are under load %s', (...lease) => {
  test('admits no request that started after the call had answered', async () => {
    const flags = ['--limit', '1000000', '--window', '60', ...lease];
    const token = await installation.token('acme', '--name', 'doomed', ...flags);
    let running = true;
    const answers: LoadAnswer[] = [];
    const callers = pools.flatMap((pool) =>
      Array.from({ length: 8 }, async () => {
        while (running) answers.push(await hit(pool, path, token.secret));
      }),
    );
    // Load first: every sidecar has admitted this token many times when it is revoked.
    await expect.poll(() => answers.length).toBeGreaterThan(2000);
    await installation.command('token', 'revoke', token.id);
    const revokedAtMs = performance.now();
    const answeredBefore = answers.length;
    await expect.poll(() => answers.length).toBeGreaterThan(answeredBefore + 2000);
    running = false;
    await Promise.all(callers);
    const after = answers.filter((answer) => answer.startedAtMs > revokedAtMs);
    expect(after.length).toBeGreaterThan(1000);
    expect(counts(after)).toEqual({ 401: after.length });
  });
});
