/** Mutated probes for half a minute; `npm run fuzz` sends a million, or as many as it is told. */
import { expect, test } from 'vitest';
import { runFuzz } from './fuzz-run.js';

const secondsMax = Number(process.env.FUZZ_SECONDS ?? 30);
const growthMaxBytes = 50 * 1024 * 1024;

test(
  'whatever is sent, the sidecar lives and nothing unauthenticated or malformed reaches the upstream',
  async () => {
    const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 2 ** 32);
    console.log(`fuzz: seed ${seed} (repeat with FUZZ_SEED=${seed})`);
    const result = await runFuzz({ seed, requestsMax: Number.POSITIVE_INFINITY, secondsMax });
    console.log(`fuzz: ${result.sent} requests, ${result.reachedUpstream} reached the upstream`);
    expect(result.violations).toEqual([]);
    expect(result.errors).toEqual([]);
    expect([result.alive, result.exitCode]).toEqual([true, 0]);
    // Both kinds were tried: what is refused and what passes.
    expect(result.reachedUpstream).toBeGreaterThan(0);
    expect(result.statuses[400]).toBeGreaterThan(0);
    expect(result.residentAfter - result.residentBefore).toBeLessThan(growthMaxBytes);
  },
  secondsMax * 1000 + 240_000,
);
