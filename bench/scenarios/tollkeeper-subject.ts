/** Tollkeeper as the subject of a scenario: started, driven, and held to account for every request. */
import { processTree } from '../harness/proc.js';
import type { Stage, Store } from '../harness/stage.js';
import { clearTraces, countCommands, countLog, exportedMetrics, startTollkeeper } from '../harness/tollkeeper.js';
import type { LoadReport } from '../load/load.js';
import type { RequestPlan } from '../load/requests.js';
import type { Scenario, Subject, SubjectOptions } from './scenario.js';

/** The log is written every 25 ms; a backlog of the whole run takes a few seconds at most. */
const logDeadlineMs = 15_000;
/**
 * Far more script calls than requests would mean that nothing is batched. At low rates each request is a batch of its own,
 * asked twice when its token is not in memory, and the log is written forty times a second besides.
 */
const scriptCallsPerRequestMax = 1.1;
const scriptCallsPerSecond = 50;
/** On every answer to a known token. */
const headsAlways = ['X-Request-Id: ', 'RateLimit: "token-60s";r='];

export interface TollkeeperLoad {
  readonly plane: 'data' | 'verify';
  readonly store: Store;
  readonly plan: RequestPlan;
  readonly bodies: readonly string[];
  /** What a refusal holds. */
  readonly bodyContains?: string;
  /** Further texts that the head of every answer holds. */
  readonly heads?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** That many tokens are over their limit all the time. */
  readonly deniedTokens?: number;
  /** Many tokens are not in memory when they come. */
  readonly misses?: boolean;
  /** What is wrong with the answers. */
  faults(report: LoadReport): string[];
}

/** A scenario whose subject is Tollkeeper; `loadOf` says what it is driven with. */
export function tollkeeperScenario(
  name: string,
  about: string,
  loadOf: (store: Store, stage: Stage) => Omit<TollkeeperLoad, 'store'> | Promise<Omit<TollkeeperLoad, 'store'>>,
): Scenario {
  return {
    name,
    about,
    isPeer: false,
    profiled: true,
    missing: () => undefined,
    async start(stage, options) {
      const store = await stage.store();
      return startSubject(stage, options, { ...(await loadOf(store, stage)), store });
    },
  };
}

/** Starts Tollkeeper for one run. */
export async function startSubject(stage: Stage, options: SubjectOptions, load: TollkeeperLoad): Promise<Subject> {
  const { store } = load;
  const upstream = (await stage.upstream()).origin('data');
  const tollkeeper = await startTollkeeper(stage, { ...options, upstream, store, env: load.env ?? {} });
  await clearTraces(store);
  const before = await countCommands(store);
  const startedAtMs = performance.now();
  return {
    pids: processTree(tollkeeper.pid),
    origin: tollkeeper.origin(load.plane),
    adminOrigin: tollkeeper.origin('admin'),
    redisPid: store.pid,
    plan: load.plan,
    bodies: load.bodies,
    bodyContains: load.bodyContains ?? '',
    heads: [...headsAlways, ...(load.heads ?? [])],
    async check(report) {
      const faults = load.faults(report);
      const logged = await countLog(store, report.answered, logDeadlineMs);
      if (logged !== report.answered) faults.push(`${logged} log entries for ${report.answered} answers`);
      const { requests, loopDelayMs, admissionBatches } = await exportedMetrics(tollkeeper);
      if (requests !== report.answered)
        faults.push(`${requests} requests in the metrics for ${report.answered} answers`);
      const after = await countCommands(store);
      const redisPerRequest = {
        scriptCalls: (after.scriptCalls - before.scriptCalls) / report.answered,
        all: (after.all - before.all) / report.answered,
      };
      const runS = (performance.now() - startedAtMs) / 1000;
      if (load.deniedTokens !== undefined) {
        // What is admitted may each be a batch; after that each token is asked for once a second.
        const batchesMax = (report.statuses['200'] ?? 0) + load.deniedTokens * Math.ceil(runS + 1);
        if (admissionBatches > batchesMax) {
          faults.push(`${admissionBatches} admission calls: a refused token is asked for more than once a second`);
        }
      }
      const callsMax = scriptCallsPerRequestMax * (load.misses === true ? 2 : 1);
      if (redisPerRequest.scriptCalls > callsMax + (scriptCallsPerSecond * runS) / report.answered) {
        faults.push(`${redisPerRequest.scriptCalls.toFixed(2)} script calls a request: nothing is batched`);
      }
      return { faults, redisPerRequest, loopDelayMs };
    },
    async stop() {
      const code = await tollkeeper.stop();
      if (code !== 0) throw new Error(`tollkeeper ended with ${code}:\n${tollkeeper.output()}`);
    },
  };
}
