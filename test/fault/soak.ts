/**
 * `npm run soak -- [--minutes N] [--rate N] [--workers N]`: 30 minutes at 200 requests a second and two workers by
 * default. Prints its report as one line of JSON, and its verdicts on standard error. Nothing else should run meanwhile.
 * Exit code 0 when every target was met, 1 when one was missed, 2 when none was missed and one could not be judged.
 */
import { parseArgs } from 'node:util';
import { outcomeOf } from './soak-report.js';
import { runSoak } from './soak-run.js';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    rate: { type: 'string', default: '200' },
    workers: { type: 'string', default: '2' },
  },
});
const report = await runSoak({
  seconds: Number(values.minutes) * 60,
  rate: Number(values.rate),
  workers: Number(values.workers),
  progress: (line) => console.error(`soak: ${line}`),
});
console.log(JSON.stringify(report));
for (const { target, verdict, found } of report.judged) console.error(`soak: ${verdict}: ${target}: ${found}`);
const { text, exitCode } = outcomeOf(report.judged);
console.error(`soak: outcome: ${text}`);
process.exitCode = exitCode;
