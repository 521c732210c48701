/** `tollkeeper usage`: what a token or a whole tenant was used for. */
import type { Command } from 'commander';
import { logRedisSettings } from '../config/require.js';
import { OperatorError } from '../core/failure.js';
import type { UsageReport, UsageSummary } from '../usage/report.js';
import { configOf } from './config-option.js';
import type { CliContext, RegisterCommand } from './context.js';
import { withOperations } from './operations.js';
import { addJsonOption, printFields, printJson, printTable } from './output.js';
import { serverOf } from './server-option.js';

interface UsageFlags {
  readonly tenant?: string;
  readonly token?: string;
  readonly json?: true;
}

export const registerUsage: RegisterCommand = (program, context) => {
  const usage = program
    .command('usage')
    .description('calls, success, response times, routes and refusals of a token or tenant')
    .option('--tenant <slug>', 'of all tokens of this tenant, deleted ones too')
    .option('--token <id>', 'of this token; with --tenant also of one that was deleted');
  addJsonOption(usage).action(async (flags: UsageFlags, command: Command) => {
    const { token } = flags;
    const tenant = flags.tenant ?? (await tenantOf(token, command, context));
    const report = await readReport(tenant, token ?? null, command, context);
    if (flags.json === true) printJson(context, report);
    else printReport(report, context);
  });
};

async function tenantOf(token: string | undefined, command: Command, context: CliContext): Promise<string> {
  if (token === undefined) throw new OperatorError('Say whose usage: --tenant SLUG or --token ID.', 2);
  return (await withOperations(command, context, (operations) => operations.showToken({ id: token }))).tenant;
}

async function readReport(
  tenant: string,
  token: string | null,
  command: Command,
  context: CliContext,
): Promise<UsageReport> {
  const server = serverOf(command, context);
  if (server !== undefined) {
    const { AdminClient } = await import('./admin-client.js');
    const path = ['tenants', tenant, ...(token === null ? [] : ['tokens', token]), 'usage'];
    return (await new AdminClient(server, context).send({ method: 'GET', path })) as UsageReport;
  }
  const [{ connectOrFail }, { readUsage }] = await Promise.all([
    import('../redis/connect.js'),
    import('../usage/reader.js'),
  ]);
  const redis = await connectOrFail(logRedisSettings(configOf(command, context)));
  try {
    return await readUsage(redis, tenant, token, Date.now());
  } finally {
    redis.disconnect();
  }
}

function printReport(report: UsageReport, context: CliContext): void {
  const { tenant, tokenId, lastUsed, lifetime, last24Hours, last30Days, topRoutes, otherRoutesCalls } = report;
  printFields(context, {
    tenant,
    token: tokenId ?? 'all',
    'last used': lastUsed === null ? 'never' : `${lastUsed.at} from ${lastUsed.ip} with ${lastUsed.userAgent || '-'}`,
  });
  context.out('');
  const columns = ['', 'calls', 'success', 'mean ms', 'p50 ms', 'p95 ms', 'p99 ms'];
  printTable(context, columns, [
    ['lifetime', ...figures(lifetime)],
    ['30 days', ...figures(last30Days)],
    ['24 hours', ...figures(last24Hours)],
  ]);
  if (lifetime.calls === 0 && Object.keys(lifetime.refusals).length === 0) return;
  const bars = barsOf(last24Hours.hours.map(({ calls }) => calls));
  context.out('');
  context.out(`calls by hour, ${last24Hours.hours[0]?.from.slice(0, 13) ?? ''}h to now (UTC): ${bars}`);
  context.out(
    `calls by day, since ${last30Days.days[0]?.date ?? ''}: ${barsOf(last30Days.days.map(({ calls }) => calls))}`,
  );
  const refusals = Object.entries(lifetime.refusals);
  if (refusals.length > 0) {
    context.out('');
    printTable(context, ['refused (lifetime)', 'requests'], refusals);
  }
  const routes = topRoutes.slice(0, 10).map(({ route, calls }) => [route, calls]);
  const others = topRoutes.slice(10).reduce((sum, { calls }) => sum + calls, otherRoutesCalls);
  if (others > 0) routes.push(['others', others]);
  if (routes.length > 0) {
    context.out('');
    printTable(context, ['route (lifetime)', 'calls'], routes);
  }
}

function figures({ calls, successRate, meanMs, p50Ms, p95Ms, p99Ms }: UsageSummary) {
  const rate = successRate === null ? null : `${(successRate * 100).toFixed(1)} %`;
  return [calls, rate, ...[meanMs, p50Ms, p95Ms, p99Ms].map((ms) => (ms === null ? null : ms.toFixed(1)))];
}

const blocks = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/** A character for each count, by its share of the highest; `·` for none. */
function barsOf(counts: readonly number[]): string {
  const highest = Math.max(...counts);
  return counts
    .map((calls) => (calls === 0 ? '·' : (blocks[Math.ceil((calls / highest) * blocks.length) - 1] ?? '')))
    .join('');
}
