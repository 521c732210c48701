/** Bodies of 1 MiB through Tollkeeper, up and down in turn, every byte compared. */
import { pagePath, uploadAnswer, uploadPath } from '../harness/answers.js';
import { blockBytes } from '../harness/pattern.js';
import type { LoadRequest } from '../load/requests.js';
import { type Scenario, statusFaults } from './scenario.js';
import { startSubject } from './tollkeeper-subject.js';

export const proxyBody: Scenario = {
  name: 'proxy-body-1m',
  about: 'proxy-bearer with bodies of 1 MiB: every other request sends one, the others fetch one; all bytes compared',
  isPeer: false,
  profiled: true,
  rateMax: 100,
  missing: () => undefined,
  async start(stage, options) {
    const store = await stage.store();
    const requests = store.unlimited.map((token, index): LoadRequest => {
      const headers = { Authorization: `Bearer ${token}` };
      return index % 2 === 0
        ? { method: 'GET', path: pagePath, headers }
        : { method: 'POST', path: uploadPath, headers, bodyIsPattern: true };
    });
    return startSubject(stage, options, {
      plane: 'data',
      store,
      plan: { kind: 'fixed', requests },
      bodies: [uploadAnswer(blockBytes)],
      faults: (report) => statusFaults(report, [200]),
    });
  },
};
