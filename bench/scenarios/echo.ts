/** The ceiling: bare uWebSockets.js that reads nothing and answers `ok`. */
import { echoBody } from '../harness/answers.js';
import { scriptArgs, startNode } from '../harness/node-child.js';
import { productRequest, type Scenario, statusFaults } from './scenario.js';

export const echo: Scenario = {
  name: 'echo',
  about: 'bare uWebSockets.js answering `ok`: the ceiling of the binding',
  isPeer: false,
  profiled: false,
  missing: () => undefined,
  async start(stage) {
    const script = new URL('../harness/answering-server.ts', import.meta.url);
    const server = await startNode(scriptArgs(script, 'echo'), { core: stage.cores.subject, planes: ['data'] });
    return {
      pids: [server.pid],
      origin: server.origin('data'),
      plan: { kind: 'fixed', requests: [productRequest('none')] },
      bodies: [echoBody],
      check: (report) => Promise.resolve({ faults: statusFaults(report, [200]) }),
      stop: async () => void (await server.stop()),
    };
  },
};
