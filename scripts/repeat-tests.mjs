// Runs test files again and again and counts what each run said: `npm run test:repeat -- [--times N] [PATH ...]`.
// Without paths: every test about a fault. Ends with 1 when a test failed in any run; the output of that run is kept.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const faults = [
  'test/fault',
  'test/fuzz',
  'test/integration/access-log',
  'test/integration/log-end-to-end',
  'test/integration/proxy-',
  'test/integration/upload-download',
  'test/integration/upstream-',
  'test/integration/worker',
  'test/conformance/probes',
];

const { values, positionals } = parseArgs({
  options: { times: { type: 'string', default: '10' } },
  allowPositionals: true,
});
const times = Number(values.times);
if (!Number.isInteger(times) || times < 1) {
  console.error(`--times is a whole number from 1 on, not ${values.times}`);
  process.exit(2);
}
const paths = positionals.length > 0 ? positionals : faults;
const kept = mkdtempSync(join(tmpdir(), 'tk-repeat-'));
let red = 0;
for (let time = 1; time <= times; time += 1) {
  const startedAtMs = Date.now();
  const run = spawnSync('npx', ['vitest', 'run', ...paths], { encoding: 'utf8', maxBuffer: 2 ** 30 });
  const output = run.stdout + run.stderr;
  const tally = /^\d+ passed, \d+ failed.*$/m.exec(output)?.[0] ?? 'no tally';
  const seconds = Math.round((Date.now() - startedAtMs) / 1000);
  console.log(`${time} of ${times}: ${tally}, ${seconds} s, load average ${loadavg()[0]?.toFixed(1)}`);
  if (run.status === 0) continue;
  red += 1;
  const file = join(kept, `${time}.txt`);
  writeFileSync(file, output);
  console.log(`  its output is in ${file}`);
}
console.log(`${times - red} of ${times} runs were green`);
process.exitCode = red === 0 ? 0 : 1;
