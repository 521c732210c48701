/** `tollkeeper doctor`: is everything that `serve` relies on as it should be, and what is to be done if not. */
import type { Command } from 'commander';
import { type ConfigSources, problemLine, readConfig } from '../config/load.js';
import { configKeys } from '../config/schema.js';
import { OperatorError } from '../core/failure.js';
import { configSources } from './config-option.js';
import type { CliContext } from './context.js';
import { type Check, fail, ok } from './doctor-check.js';
import { checkDescriptors, checkSettings, checkUpstream } from './doctor-local.js';
import { checkRedis } from './doctor-redis.js';
import { addJsonOption, printJson, printTable } from './output.js';
import { refuseServer } from './server-option.js';

/** Registers `doctor`; it ends with 1 when a check fails. */
export function registerDoctor(program: Command, context: CliContext): void {
  const command = program
    .command('doctor')
    .description('check the configuration, Redis, the upstream and the limits of the process')
    .action(async (options: { json?: boolean }) => {
      refuseServer(command);
      const checks = await examine(configSources(command, context));
      const failed = checks.filter(({ status }) => status === 'fail').length;
      if (options.json === true) {
        printJson(context, { ok: failed === 0, checks });
      } else {
        const rows = checks.map(({ status, check, found, todo }) => [status, check, found, todo]);
        printTable(context, ['status', 'check', 'found', 'what to do'], rows);
      }
      if (failed > 0) {
        throw new OperatorError(`${failed} of ${checks.length} checks failed: see what to do beside each of them.`);
      }
    });
  addJsonOption(command);
}

/** What the connections to Redis are made of. */
const redisKeys = configKeys.filter((key) => /^(redis|logRedis)/.test(key));

/** Every check. What a problem of the configuration touches is left out: it has been named already. */
export async function examine(sources: ConfigSources): Promise<Check[]> {
  const { config, problems } = readConfig(sources);
  const touched = new Set(problems.map(({ key }) => key));
  const untouched = (...keys: readonly string[]): boolean => !keys.some((key) => touched.has(key));
  const todo = 'Correct it; docs/configuration.md lists every key.';
  return [
    ...problems.map((problem) => fail('configuration', problemLine(problem), todo)),
    ...(problems.length === 0 ? [ok('configuration', 'no problem')] : []),
    ...checkSettings(config).filter(({ check }) => untouched(check)),
    ...(untouched(...redisKeys) ? (await checkRedis(config)).filter(({ check }) => untouched(check)) : []),
    ...(untouched('upstream') ? await checkUpstream(config) : []),
    checkDescriptors(config),
  ];
}
