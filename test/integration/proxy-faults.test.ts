/** Redis away, frozen, slow or empty; the policy replaced while requests come: what callers see, and how fast it ends. */
import { writeFileSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { type Answer, call, slugOf } from '../support/http-client.js';
import { type ProxyRig, proxyPolicy, startProxyRig } from '../support/proxy-rig.js';
import { until } from '../support/until.js';

let rig: ProxyRig;

afterEach(() => rig.stop());

const ask = (path = '/files/a'): Promise<Answer> => call(`${rig.sidecar.dataUrl}${path}`, { token: rig.token.secret });

async function timed<T>(work: Promise<T>): Promise<[T, number]> {
  const startedAtMs = performance.now();
  return [await work, performance.now() - startedAtMs];
}

async function readiness(): Promise<[number, string]> {
  const answer = await call(`${rig.sidecar.adminUrl}/readyz`);
  return [answer.status, answer.text];
}

/** Twenty requests at once: each must be 503 `store-unavailable` with Retry-After, in time. */
async function expectRefusals(withinMs: number): Promise<void> {
  const answers = await Promise.all(Array.from({ length: 20 }, () => timed(ask())));
  for (const [answer, tookMs] of answers) {
    expect([answer.status, slugOf(answer), answer.headers['retry-after']]).toEqual([503, 'store-unavailable', '1']);
    expect(answer.headers['www-authenticate']).toBeUndefined();
    expect(tookMs).toBeLessThan(withinMs);
  }
}

const deadline = { TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '100' };
/** The rest is room for a busy machine. */
const inTimeMs = 600;

describe('Redis', () => {
  test('killed: 503 store-unavailable at once, public routes go on, 200 again within a second after its return', async () => {
    rig = await startProxyRig(deadline, { appendonly: true });
    const { redis } = rig.installation;
    expect((await ask()).status).toBe(200);
    await redis.kill();
    await expectRefusals(inTimeMs);
    expect((await ask('/open/a')).status).toBe(200);
    await until(async () => (await readiness())[0] === 503);
    const before = rig.seen('/files/a').length;
    await expectRefusals(inTimeMs);
    expect(rig.seen('/files/a')).toHaveLength(before);

    await redis.restart({ keepData: true });
    const [, tookMs] = await timed(until(async () => (await ask()).status === 200));
    expect(tookMs).toBeLessThan(1000);
    await until(async () => (await readiness())[0] === 200);
    // Nothing was lost: what was refused meanwhile is in the log too.
    expect(await rig.sidecar.stop()).toBe(0);
    const client = redis.client();
    const outcomes: string[] = [];
    for (const key of await client.keys('log:*')) {
      for (const [, fields] of await client.xrange(key, '-', '+')) {
        outcomes.push(fields[fields.indexOf('outcome') + 1] as string);
      }
    }
    expect(outcomes.filter((outcome) => outcome === 'store-unavailable').length).toBeGreaterThanOrEqual(40);
    client.disconnect();
  });

  test('frozen: 503 within the deadline, never a hang, and 200 again when it goes on', async () => {
    rig = await startProxyRig(deadline);
    const { redis } = rig.installation;
    expect((await ask()).status).toBe(200);
    redis.freeze();
    await expectRefusals(inTimeMs);
    await expectRefusals(inTimeMs); // now by the breaker
    expect((await ask('/open/a')).status).toBe(200);
    redis.thaw();
    const [, tookMs] = await timed(until(async () => (await ask()).status === 200));
    expect(tookMs).toBeLessThan(1000);
  });

  test('that came back empty: 503 and not 401, /readyz says so; with its data back, 200', async () => {
    rig = await startProxyRig(deadline, { appendonly: true });
    const { redis } = rig.installation;
    expect((await ask()).status).toBe(200);
    const keeper = redis.client();
    const everything = new Map<string, Buffer>();
    for (const key of await keeper.keys('*')) everything.set(key, await keeper.dumpBuffer(key));
    keeper.disconnect();
    await redis.restart({ keepData: false });
    // From the first answer after its return on: never 401.
    const statuses = new Set<number>();
    await until(async () => {
      const answer = await ask();
      statuses.add(answer.status);
      const [status, text] = await readiness();
      return status === 503 && text.includes('empty');
    });
    expect([...statuses]).toEqual([503]);
    await expectRefusals(inTimeMs);
    const unknown = await call(`${rig.sidecar.dataUrl}/files/a`, { token: (await foreignToken()).secret });
    expect(unknown.status).toBe(503);
    expect((await ask('/open/a')).status).toBe(200);

    const restorer = redis.client();
    for (const [key, value] of everything) await restorer.restore(key, 0, value, 'REPLACE');
    restorer.disconnect();
    await until(async () => (await ask()).status === 200);
    await until(async () => (await readiness())[0] === 200);
  });

  test('away at the start: the sidecar starts, is not ready, answers 503, and recovers by itself', async () => {
    rig = await startProxyRig(deadline, { appendonly: true });
    const { redis } = rig.installation;
    await redis.kill();
    const early = await rig.another({});
    const answer = await call(`${early.dataUrl}/files/a`, { token: rig.token.secret });
    expect([answer.status, slugOf(answer)]).toEqual([503, 'store-unavailable']);
    expect((await call(`${early.adminUrl}/readyz`)).status).toBe(503);
    expect((await call(`${early.adminUrl}/healthz`)).status).toBe(200);
    await redis.restart({ keepData: true });
    await until(async () => (await call(`${early.dataUrl}/files/a`, { token: rig.token.secret })).status === 200);
  });
});

/** A well-formed token that this sidecar has never seen. */
async function foreignToken(): Promise<{ secret: string }> {
  const other = await startProxyRig(deadline);
  await other.stop();
  return other.token;
}

describe('SIGHUP', () => {
  test('takes over a good policy and refuses a bad one, while every request is answered by the old or the new', async () => {
    rig = await startProxyRig();
    const policyPath = rig.installation.env.TOLLKEEPER_POLICY as string;
    const unexpected: number[] = [];
    let going = true;
    const load = (async () => {
      while (going) {
        const { status } = await ask();
        if (status !== 200) unexpected.push(status);
      }
    })();
    expect((await ask('/extra/a')).status).toBe(403);

    writeFileSync(policyPath, `${proxyPolicy}    - { methods: [GET], path: "/extra/{name}", scope: files }\n`);
    rig.sidecar.signal('SIGHUP');
    await until(async () => (await ask('/extra/a')).status === 200);

    writeFileSync(policyPath, 'policy: { default: maybe }');
    rig.sidecar.signal('SIGHUP');
    const line = await rig.sidecar.logged(({ level, reason }) => level === 'error' && typeof reason === 'string');
    expect(String(line.reason)).toMatch(/default|maybe/);
    expect((await ask('/extra/a')).status).toBe(200);
    const metrics = await call(`${rig.sidecar.adminUrl}/metrics`);
    expect(metrics.text).toMatch(/tollkeeper_policy_reloads_total\{[^}]*result="failed"[^}]*\} 1/);

    writeFileSync(policyPath, proxyPolicy);
    rig.sidecar.signal('SIGHUP');
    await until(async () => (await ask('/extra/a')).status === 403);
    going = false;
    await load;
    expect(unexpected).toEqual([]);
  });
});
