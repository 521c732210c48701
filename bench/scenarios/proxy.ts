/** Tollkeeper as a reverse proxy, the full job: token, limit, forward, access log, metrics. */
import { upstreamBody } from '../harness/answers.js';
import type { LoadReport } from '../harness/load.js';
import { tightLimit, type Stage, type Store } from '../harness/stage.js';
import { clearLog, countCommands, countedRequests, countLog, startTollkeeper } from '../harness/tollkeeper.js';
import { productRequest, type Scenario, statusFaults, type Subject, type SubjectOptions } from './scenario.js';

/** The log is written every 100 ms; a backlog of the whole run takes a few seconds at most. */
const logDeadlineMs = 15_000;
/** Far more script calls than requests would mean that nothing is batched. */
const scriptCallsPerRequestMax = 1.1;

export const proxyBearer: Scenario = {
  name: 'proxy-bearer',
  about: 'Tollkeeper, Bearer tokens, all admitted: token, limit, forward, access log, metrics',
  isPeer: false,
  profiled: true,
  missing: () => undefined,
  start: (stage, options) =>
    startProxy(stage, options, {
      tokens: (store) => store.unlimited,
      faults: (report) => statusFaults(report, [200]),
      bodyContains: '',
    }),
};

export const proxyDenied: Scenario = {
  name: 'proxy-denied',
  about: 'Tollkeeper, Bearer tokens far over their limit: a flood of 429, each logged and counted',
  isPeer: false,
  profiled: true,
  missing: () => undefined,
  start: (stage, options) =>
    startProxy(stage, options, {
      tokens: (store) => store.tight,
      faults: (report) => [...statusFaults(report, [200, 429]), ...tooManyAdmitted(report)],
      bodyContains: 'problems/rate-limit-exceeded',
    }),
};

interface ProxyLoad {
  tokens(store: Store): readonly string[];
  faults(report: LoadReport): string[];
  /** What a refusal holds. */
  readonly bodyContains: string;
}

async function startProxy(stage: Stage, options: SubjectOptions, load: ProxyLoad): Promise<Subject> {
  const [store, upstream] = [await stage.store(), await stage.upstream()];
  const tollkeeper = await startTollkeeper(stage, { ...options, upstream: upstream.origin('data') });
  await clearLog(store);
  const before = await countCommands(store);
  return {
    pid: tollkeeper.pid,
    origin: tollkeeper.origin('data'),
    redisPid: store.pid,
    requests: load.tokens(store).map(productRequest),
    bodies: [upstreamBody],
    bodyContains: load.bodyContains,
    async check(report) {
      const faults = load.faults(report);
      const logged = await countLog(store, report.answered, logDeadlineMs);
      if (logged !== report.answered) faults.push(`${logged} log entries for ${report.answered} answers`);
      const counted = await countedRequests(tollkeeper);
      if (counted !== report.answered) faults.push(`${counted} requests in the metrics for ${report.answered} answers`);
      const after = await countCommands(store);
      const redisPerRequest = {
        scriptCalls: (after.scriptCalls - before.scriptCalls) / report.answered,
        all: (after.all - before.all) / report.answered,
      };
      if (redisPerRequest.scriptCalls > scriptCallsPerRequestMax) {
        faults.push(`${redisPerRequest.scriptCalls.toFixed(2)} script calls a request: nothing is batched`);
      }
      return { faults, redisPerRequest };
    },
    async stop() {
      const code = await tollkeeper.stop();
      if (code !== 0) throw new Error(`tollkeeper ended with ${code}:\n${tollkeeper.output()}`);
    },
  };
}

/** Each tight token may pass its limit once a minute; earlier runs may have used it up. */
function tooManyAdmitted(report: LoadReport): string[] {
  const admitted = report.statuses['200'] ?? 0;
  const tokens = 4;
  const most = tokens * tightLimit * Math.ceil(1 + report.window.durationMs / 30_000);
  return admitted > most ? [`${admitted} admitted, at most ${most} may be`] : [];
}
