/** `npm run fuzz -- [--requests N] [--seconds N] [--seed N]`: prints the result as JSON; exit code 1 when anything was wrong. */
import { parseArgs } from 'node:util';
import { runFuzz } from './fuzz-run.js';

const { values } = parseArgs({
  options: { requests: { type: 'string', default: '1000000' }, seconds: { type: 'string' }, seed: { type: 'string' } },
});
const seed = Number(values.seed ?? Date.now() % 2 ** 32);
console.error(`fuzz: seed ${seed}`);
const result = await runFuzz({
  seed,
  requestsMax: Number(values.requests),
  secondsMax: Number(values.seconds ?? Number.POSITIVE_INFINITY),
  progress: (sent) => console.error(`fuzz: ${sent} sent`),
});
const growthBytes = result.residentAfter - result.residentBefore;
console.log(JSON.stringify({ ...result, violations: result.violations.slice(0, 20), growthBytes }, undefined, 2));
const isClean = result.violations.length === 0 && result.errors.length === 0 && result.alive && result.exitCode === 0;
process.exitCode = isClean ? 0 : 1;
