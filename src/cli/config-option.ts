/** The configuration for a command: the global `--config FILE`, the environment and the command's own flags. */
import { type Command, Option } from 'commander';
import { type ConfigSources, loadConfig } from '../config/load.js';
import type { Config, ConfigKey } from '../config/schema.js';
import type { CliContext } from './context.js';
import { clientVariables } from './server-option.js';

/** Adds `--config FILE` to the program; it may stand before or behind the name of the command. */
export function addConfigOption(program: Command): void {
  program.addOption(new Option('--config <file>', 'YAML configuration file; the environment wins over it'));
}

/** Where the configuration of `command` comes from. `flags`: values that the command's own options set, by key. */
export function configSources(
  command: Command,
  context: CliContext,
  flags: Readonly<Partial<Record<ConfigKey, unknown>>> = {},
): ConfigSources {
  const { config } = command.optsWithGlobals<{ config?: string }>();
  const ofClient = new Set<string>(Object.values(clientVariables));
  const env = Object.fromEntries(Object.entries(context.env).filter(([name]) => !ofClient.has(name)));
  return { configPath: config, env, flags };
}

/**
 * The checked configuration of `command`.
 * @throws OperatorError that lists everything wrong with it.
 */
export function configOf(
  command: Command,
  context: CliContext,
  flags: Readonly<Partial<Record<ConfigKey, unknown>>> = {},
): Config {
  return loadConfig(configSources(command, context, flags));
}
