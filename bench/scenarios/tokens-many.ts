/** Tollkeeper's whole job in front of a Redis with a million tokens of a thousand tenants. */
import { upstreamBody } from '../harness/answers.js';
import { type Scenario, statusFaults } from './scenario.js';
import { startSubject } from './tollkeeper-subject.js';

function scenario(name: string, about: string, skewed: boolean): Scenario {
  return {
    name,
    about,
    isPeer: false,
    profiled: true,
    missing: () => undefined,
    async start(stage, options) {
      const { count, store } = await stage.manyTokens();
      return startSubject(stage, options, {
        plane: 'data',
        store,
        plan: {
          kind: 'many-tokens',
          request: { method: 'GET', path: '/api/v1/products/42', headers: {} },
          count,
          skewed,
        },
        bodies: [upstreamBody],
        misses: true,
        faults: (report) => statusFaults(report, [200]),
      });
    },
  };
}

export const tokensMany = scenario(
  'tokens-1m',
  'proxy-bearer with a million tokens of 1,000 tenants; the n-th is used 1/n as often as the first (Zipf)',
  true,
);

export const tokensManyEven = scenario(
  'tokens-1m-even',
  'the same, but every request takes any of the million tokens: hardly one finds its record in memory',
  false,
);
