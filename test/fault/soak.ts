/** `npm run soak -- [--minutes N] [--rate N]`: 30 minutes at 200 requests a second by default; prints its report as JSON. */
import { parseArgs } from 'node:util';
import { runSoak } from './soak-run.js';

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '30' }, rate: { type: 'string', default: '200' } },
});
const report = await runSoak({
  seconds: Number(values.minutes) * 60,
  rate: Number(values.rate),
  progress: (line) => console.error(`soak: ${line}`),
});
console.log(JSON.stringify(report, undefined, 2));
process.exitCode = report.unexpected.length === 0 ? 0 : 1;
