/**
 * The entry of a worker process, forked by worker-process.ts: a data plane that does what the primary says. A worker
 * whose primary vanished drains and ends.
 *
 * Signals are the primary's business: a terminal and most service managers send them to every process of the group.
 */
import { OperatorError } from '../core/failure.js';
import { createLogger } from '../telemetry/logger.js';
import { DataProcess } from './data-process.js';
import type { ReadinessReport } from './readiness.js';
import { type FromWorker, policyOf, reportEveryMs, type ToWorker } from './worker-protocol.js';

type Start = Extract<ToWorker, { kind: 'start' }>;

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR2'] as const) process.on(signal, () => {});

/** Built, or undefined when it could not be. */
let opened: Promise<DataProcess | undefined> = Promise.resolve(undefined);
let listening: DataProcess | undefined;
let leaving = false;

/** Answers when the primary has it, or is not there any more. */
function tell(message: FromWorker): Promise<void> {
  return new Promise((resolve) => {
    if (process.connected) process.send?.(message, undefined, undefined, () => resolve());
    else resolve();
  });
}

async function start({ number, config, policy }: Start): Promise<void> {
  try {
    const logger = createLogger(config.logLevel).child({ worker: number });
    const opening = DataProcess.open(config, policyOf(policy), true, logger);
    opened = opening.catch(() => undefined);
    const data = await opening;
    const addresses = await data.listen();
    listening = data;
    void report();
    void tell({ kind: 'listening', addresses });
  } catch (error) {
    const { message, exitCode } =
      error instanceof OperatorError ? error : { message: `internal error: ${String(error)}`, exitCode: 1 as const };
    await tell({ kind: 'failed', message, exitCode });
    process.exit(1);
  }
}

function report(): Promise<void> {
  const readiness: ReadinessReport | undefined = listening?.readiness();
  return tell({ kind: 'report', report: readiness });
}

/** Said again without lingering, it leaves idle connections behind. */
async function leave(lingering: boolean): Promise<void> {
  const data = await opened;
  const closed = data?.close(lingering);
  if (leaving) return;
  leaving = true;
  await closed;
  await tell({ kind: 'left', snapshot: await data?.metrics.snapshot() });
  process.exit(0);
}

async function hear(message: ToWorker): Promise<void> {
  switch (message.kind) {
    case 'start':
      return start(message);
    case 'policy':
      (await opened)?.usePolicy(policyOf(message.policy));
      return tell({ kind: 'answer', ask: message.ask });
    case 'snapshot': {
      const data = await opened;
      return data && tell({ kind: 'answer', ask: message.ask, snapshot: await data.metrics.snapshot() });
    }
    case 'leave':
      return leave(message.lingering);
  }
}

process.on('message', (message: ToWorker) => void hear(message));
process.on('disconnect', () => void leave(false));
setInterval(() => void report(), reportEveryMs);
