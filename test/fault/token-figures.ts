/** What must hold of tokens across four sidecars, ten thousand times over: for figures.ts. */
import { Pool } from 'undici';
import { openRepositories, tokenDraft } from '../support/repositories.js';
import { startInstallation } from '../support/installation.js';
import { hit } from '../support/load.js';
import { faultPolicy } from './fault-rig.js';

const sidecarCount = 4;
const atOnce = 16;

/**
 * Each trial makes a token, has every sidecar admit it (so that it is in every cache), revokes it, and asks every
 * sidecar once more when the revocation was answered.
 */
export async function revoke(trials: number): Promise<object> {
  const installation = await startInstallation({ policy: faultPolicy });
  try {
    await installation.tenant('acme', '--max-tokens', '1000000');
    const sidecars = await Promise.all(Array.from({ length: sidecarCount }, () => installation.sidecar()));
    const pools = sidecars.map(({ dataUrl }) => new Pool(dataUrl, { connections: atOnce, pipelining: 1 }));
    const { store, tokens } = await openRepositories(installation.redis.url);
    const before: Record<number, number> = {};
    const after: Record<number, number> = {};
    let trial = 0;
    const askAll = async (secret: string, counts: Record<number, number>): Promise<void> => {
      const answers = await Promise.all(pools.map((pool) => hit(pool, '/files/a', secret)));
      for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1;
    };
    const worker = async (): Promise<void> => {
      while (trial < trials) {
        trial += 1;
        const { record, secret } = await tokens.create('acme', tokenDraft({ scopes: ['files'] }));
        await askAll(secret, before);
        await tokens.revoke(record.id);
        await askAll(secret, after);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
    await Promise.all(pools.map((pool) => pool.close()));
    await store.close();
    const admitted = after[200] ?? 0;
    return { trials, sidecars: sidecarCount, 'admitted after the answer': admitted, 'answers before': before, after };
  } finally {
    await installation.stop();
  }
}
