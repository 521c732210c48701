/** What the benchmark makes of its runs: which of them count, for which target, under which load. */
import { expect, test } from 'vitest';
import { type Figures, loadFaults, type Run } from '../../../bench/harness/measure.js';
import type { LoadReport } from '../../../bench/load/load.js';
import { type BenchOptions, differenceOf, parseOptions } from '../../../bench/options.js';
import { judgeTargets, verdictOf } from '../../../bench/report/targets.js';
import { scenarios } from '../../../bench/scenarios/all.js';
import { ratesOf } from '../../../bench/scenarios/scenario.js';

const nothing: Figures = {
  requests: 1,
  requestsPerS: 1,
  p50Ms: 1,
  p90Ms: 1,
  p99Ms: 1,
  cpuUs: 1,
  redisCpuUs: 0,
  rssBytes: 0,
  coresSubject: 1,
  loopDelayMs: 0,
  coresOthers: 0,
  redisScripts: 0,
  redisCommands: 0,
};

function run(scenario: string, figures: Partial<Figures>, more: Partial<Run> = {}): Run {
  const counts = { faults: [], errors: 0, non2xx: 0, statuses: {}, slowdown: 1 };
  return { scenario, repetition: 1, rate: 0, ...counts, figures: { ...nothing, ...figures }, ...more };
}

const ratio = 'CPU of proxy-bearer by that of nginx-lua-redis';

function verdictsOf(runs: readonly Run[], what: string): string[] {
  const judged = judgeTargets(runs).filter((target) => target.what === what);
  return judged.map((target) => `${target.load} ${target.value.median} ${verdictOf(target)}`);
}

test('a target is judged at each load by itself: reached at one, missed at another', () => {
  const runs = [
    run('proxy-bearer', { cpuUs: 50 }),
    run('nginx-lua-redis', { cpuUs: 100 }),
    run('proxy-bearer', { cpuUs: 66 }, { rate: 2000 }),
    run('nginx-lua-redis', { cpuUs: 100 }, { rate: 2000 }),
  ];
  expect(verdictsOf(runs, ratio)).toEqual(['closed loop 0.5 reached, and the goal', '2000/s 0.66 MISSED']);
});

test('ratios are taken within a repetition, and runs that failed are in none', () => {
  const runs = [
    run('proxy-bearer', { cpuUs: 10 }, { repetition: 1 }),
    run('nginx-lua-redis', { cpuUs: 100 }, { repetition: 1, faults: ['3 wrong answers'] }),
    run('proxy-bearer', { cpuUs: 60 }, { repetition: 2 }),
    run('nginx-lua-redis', { cpuUs: 100 }, { repetition: 2 }),
  ];
  expect(verdictsOf(runs, ratio)).toEqual(['closed loop 0.6 reached']);
});

test('no scenario in which Tollkeeper asks Redis escapes the target for the CPU of Redis', () => {
  for (const { name, isPeer } of scenarios) {
    if (isPeer || name === 'echo') continue;
    const verdicts = verdictsOf([run(name, { redisCpuUs: 99 })], `CPU of Redis per request, ${name}`);
    expect(verdicts, name).toEqual(['closed loop 99 MISSED']);
  }
});

test('a scenario with a highest rate is run once for all rates beyond it', () => {
  expect(ratesOf({ rateMax: 100 }, [0, 2000, 8000])).toEqual([0, 100]);
  expect(ratesOf({}, [0, 2000, 8000])).toEqual([0, 2000, 8000]);
});

test('a run that was answered more slowly than its rate is wrong, one in a closed loop has no rate', () => {
  const report = (requests: number): LoadReport => ({
    sent: requests,
    answered: requests,
    errors: 0,
    mismatches: 0,
    mismatch: '',
    statuses: { 200: requests },
    window: {
      durationMs: 2000,
      requests,
      non2xx: 0,
      latencyMs: { p50: 1, p90: 1, p99: 1, max: 1 },
      consumption: {},
      loadCpuUs: 0,
      machineCpuUs: 0,
      fromUs: 0,
      toUs: 2_000_000,
    },
  });
  expect(loadFaults(report(3700), 2000)).toEqual(['1850 answers a second at 2000 requests']);
  expect(loadFaults(report(3900), 2000)).toEqual([]);
  expect(loadFaults(report(3), 0)).toEqual([]);
});

test('pieces of one benchmark are measured alike: what differs is named', () => {
  const options = (...argv: string[]): BenchOptions => parseOptions(argv) as BenchOptions;
  const earlier = options('--duration', '5', '--warmup', '2', '--rate', '0');
  expect(differenceOf(earlier, options('--duration', '5', '--warmup', '2'))).toBe('');
  expect(differenceOf(earlier, options('--duration', '5', '--connections', '32'))).toBe('--warmup 2 --connections 64');
});
