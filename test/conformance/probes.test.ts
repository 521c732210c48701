/** Hostile and odd requests, byte for byte, each with what may and what must never happen (http_probes.json). */
import { beforeAll, describe, expect, test } from 'vitest';
import { type ProbeRun, runProbes } from './probe-runner.js';
import { probes } from './probe-target.js';
import { type Observation, judge, violations } from './probe-violations.js';

test('every must_not of the probes has a check', () => {
  const named = new Set(probes.flatMap((probe) => probe.expect.must_not));
  expect([...named].filter((name) => violations[name] === undefined)).toEqual([]);
});

// Each probe needs an address of its own: only Linux has all of 127.0.0.0/8 on the loopback interface.
describe.skipIf(process.platform !== 'linux')('probes', () => {
  let run: ProbeRun;
  beforeAll(async () => {
    run = await runProbes();
  });

  for (const probe of probes) {
    test(`${probe.id}: ${probe.why}`, () => {
      expect(judge(run.observations.get(probe.id) as Observation)).toEqual([]);
    });
  }

  test('what the probes are judged by is there: upstream requests and log entries are found by their probe', () => {
    const { upstream, logged } = run.observations.get('c-get') as Observation;
    expect(upstream).toHaveLength(1);
    expect(logged).toEqual([expect.objectContaining({ path: '/api/v1/products', status: '200', tenant: 'acme' })]);
  });

  test('every request at the upstream is whole and came from a probe', () => {
    expect(run.unattributed).toEqual([]);
    expect(run.strayBytes).toBe(0);
  });

  test('no probe makes the sidecar log an error, and it ends cleanly afterwards', () => {
    expect(run.errors).toEqual([]);
    expect(run.exitCode).toBe(0);
  });
});
