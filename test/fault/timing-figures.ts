/** How long it takes to refuse a token, for figures.ts (the long form) and timing.test.ts (the short one). */
import { Pool } from 'undici';
import { startFaultRig } from './fault-rig.js';

export interface TimingFigure {
  readonly samples: number;
  /** us at p25, p50, p75. */
  readonly 'known id, wrong secret': readonly number[];
  readonly 'unknown id': readonly number[];
  /** Of the pairs, how often the known id took longer, of 1. */
  readonly 'known slower': number;
}

/** Unknown ids and wrong secrets of known ids, in turn and as pairs, over one connection: the time to the answer. */
export async function timing(samples: number): Promise<TimingFigure> {
  const rig = await startFaultRig({
    env: { TOLLKEEPER_AUTH_FAILURE_LIMIT: '0', TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000' },
  });
  try {
    const { installation } = rig;
    const [known, unknown] = [
      await installation.token('acme', '--scopes', 'files'),
      await installation.token('acme', '--scopes', 'files'),
    ];
    await installation.command('token', 'revoke', unknown.id);
    await installation.command('token', 'delete', unknown.id);
    // The checksum of a token is over its secret too: a wrong one of this id that has it is the one before a rotation.
    await installation.command('token', 'rotate', known.id);
    const pool = new Pool(rig.sidecars[0]?.dataUrl as string, { connections: 1, pipelining: 1 });
    const refused = async (token: string): Promise<number> => {
      const startedAtMs = performance.now();
      const answer = await pool.request({
        method: 'GET',
        path: '/files/a',
        headers: { authorization: `Bearer ${token}` },
      });
      const tookUs = (performance.now() - startedAtMs) * 1000;
      await answer.body.dump();
      if (answer.statusCode !== 401) throw new Error(`401 was expected, not ${answer.statusCode}`);
      return tookUs;
    };
    const ofKnown: number[] = [];
    const ofUnknown: number[] = [];
    let knownSlower = 0;
    for (let pair = -500; pair < samples; pair += 1) {
      const isKnownFirst = pair % 2 === 0;
      const first = await refused(isKnownFirst ? known.secret : unknown.secret);
      const second = await refused(isKnownFirst ? unknown.secret : known.secret);
      if (pair < 0) continue;
      const [one, other] = isKnownFirst ? [first, second] : [second, first];
      ofKnown.push(one);
      ofUnknown.push(other);
      if (one > other) knownSlower += 1;
    }
    await pool.close();
    return {
      samples,
      'known id, wrong secret': quartiles(ofKnown),
      'unknown id': quartiles(ofUnknown),
      'known slower': Math.round((knownSlower / samples) * 1000) / 1000,
    };
  } finally {
    await rig.stop();
  }
}

function quartiles(list: readonly number[]): number[] {
  const sorted = list.toSorted((one, other) => one - other);
  return [0.25, 0.5, 0.75].map((share) => Math.round((sorted[Math.floor(sorted.length * share)] ?? 0) * 10) / 10);
}
