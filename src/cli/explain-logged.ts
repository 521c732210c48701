/** `tollkeeper explain --request-id`: what became of a request that is in the access log. */
import { entryView, type LogEntryView } from '../accesslog/logged-entry.js';
import type { Config } from '../config/schema.js';
import { OperatorError } from '../core/failure.js';
import { type Problem, problems } from '../core/problems.js';
import { findLoggedRequests } from '../explain/logged-request.js';
import { keys } from '../redis/keys.js';
import { AdminApiError, AdminClient } from './admin-client.js';
import type { CliContext } from './context.js';
import { printable, printFields, printJson } from './output.js';
import { pastTime } from './past-time.js';
import { withStore } from './store-session.js';

interface LoggedQuestion {
  readonly requestId: string;
  /** How far back to look. */
  readonly since: string;
  readonly json: boolean;
}

/** How far the clock of a sidecar may be ahead of this one, ms. */
const clockToleranceMs = 5 * 60_000;

const dayMs = 86_400_000;

/**
 * Prints what the access log says, newest first when the id was used more than once. `place`: the Redis, or a server.
 * @throws OperatorError when nothing is logged under the id.
 */
export async function explainLogged(
  place: Config | AdminClient,
  question: LoggedQuestion,
  context: CliContext,
): Promise<void> {
  const { requestId, since } = question;
  const nowMs = Date.now();
  const fromMs = pastTime('--since', since, nowMs);
  const entries =
    place instanceof AdminClient
      ? await askedOf(place, requestId, fromMs, nowMs)
      : await readFrom(place, requestId, fromMs, nowMs);
  if (entries.length === 0) {
    throw new OperatorError(
      `No request with the id ${printable(requestId)} was logged since ${printable(since)}: look further back with --since.`,
    );
  }
  const explained = entries.map((entry) => ({ ...entry, problem: problemOf(entry) }));
  if (question.json) return printJson(context, { requestId, entries: explained });
  for (const [at, { id: _id, problem, ...entry }] of explained.entries()) {
    if (at > 0) context.out('');
    const meaning = problem === null ? {} : { meaning: problem.title, 'what to do': problem.remedy };
    printFields(context, { ...entry, ...meaning });
  }
}

async function readFrom(config: Config, requestId: string, fromMs: number, nowMs: number): Promise<LogEntryView[]> {
  const slugs = await withStore(config, (store) => store.ask(() => store.redis.zrange(keys.tenants(), 0, '-1')));
  const entries = await withStore(
    config.logRedisUrl === undefined ? config : { ...withoutTokenRedis(config), redisUrl: config.logRedisUrl },
    (log) => log.ask(() => findLoggedRequests(log.redis, ['', ...slugs], requestId, fromMs, nowMs + clockToleranceMs)),
    { mayBeEmpty: true },
  );
  return entries.map(entryView);
}

/** The API looks whole days back. */
async function askedOf(client: AdminClient, requestId: string, fromMs: number, nowMs: number): Promise<LogEntryView[]> {
  const body = { requestId, days: Math.max(1, Math.ceil((nowMs - fromMs) / dayMs)) };
  const answer = await client.send({ method: 'POST', path: ['explain'], body }).catch((error: unknown) => {
    if (error instanceof AdminApiError && error.status === 404) return { entries: [] };
    throw error;
  });
  const { entries } = answer as { readonly entries: readonly LogEntryView[] };
  return entries.filter(({ time }) => Date.parse(time) >= fromMs);
}

/** The log lies on a server of its own. */
function withoutTokenRedis({ redisCluster: _cluster, redisSentinels: _sentinels, ...config }: Config): Config {
  return config;
}

/** What the catalogue says of the outcome; null for what was forwarded and for a client that left. */
function problemOf({ outcome }: Pick<LogEntryView, 'outcome'>): Pick<Problem, 'title' | 'remedy' | 'fault'> | null {
  if (!Object.hasOwn(problems, outcome)) return null;
  const { title, remedy, fault } = problems[outcome as keyof typeof problems];
  return { title, remedy, fault };
}
