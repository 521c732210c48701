/**
 * Loads the configuration: defaults, then the YAML file, then the environment, then flags, each over the one before.
 * Every source is checked in full, so that one start names every problem, also in values that another source hides.
 */
import { OperatorError } from '../core/failure.js';
import { contradictionsIn } from './contradictions.js';
import { type Config, type ConfigKey, configSchema, describeKey, type PolicySource } from './schema.js';
import { type ConfigProblem, type Layer, readConfigFile, readEnvironment, readFlags, type Setting } from './sources.js';

/** Where configuration comes from. */
export interface ConfigSources {
  /** The YAML file; undefined reads none. */
  readonly configPath?: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** Values from the command line, by key; undefined ones count as not given. */
  readonly flags?: Readonly<Partial<Record<ConfigKey, unknown>>> | undefined;
}

/** The outcome of reading every source: with problems, their keys have the default in `config`. */
export interface ConfigReading {
  readonly config: Config;
  readonly problems: readonly ConfigProblem[];
}

/**
 * The configuration, checked.
 * @throws OperatorError with a line for each problem: key, what was found (never of a secret), what is allowed, where.
 */
export function loadConfig(sources: ConfigSources): Config {
  const { config, problems } = readConfig(sources);
  if (problems.length === 0) return config;
  const lines = problems.map(problemLine);
  throw new OperatorError(
    lines.length === 1 ? (lines[0] as string) : `the configuration has ${lines.length} problems:\n${lines.join('\n')}`,
    // A key that does not exist is wrong usage, like an option that does not exist.
    problems.some(({ message }) => message.startsWith('unknown ')) ? 2 : 1,
  );
}

/** One line for a person: `workers: found "many", allowed is a whole number from 1 to 256 (TOLLKEEPER_WORKERS)`. */
export function problemLine({ key, message, source }: ConfigProblem): string {
  return `${key}: ${message} (${source})`;
}

/** Reads and checks every source without throwing. */
export function readConfig({ configPath, env, flags }: ConfigSources): ConfigReading {
  const layers = [
    ...(configPath === undefined ? [] : [readConfigFile(configPath)]),
    readEnvironment(env),
    readFlags(flags ?? {}),
  ];
  const problems: ConfigProblem[] = [];
  const settings = new Map<ConfigKey, Setting>();
  for (const layer of layers) {
    const found = [...layer.problems, ...refusalsOf(layer)];
    for (const [key, setting] of layer.settings) {
      if (!found.some((problem) => problem.key === key)) settings.set(key, setting);
    }
    problems.push(...found);
  }
  const refused = new Set(problems.map(({ key }) => key));
  problems.push(...contradictionsIn(settings).filter(({ keys }) => !keys.some((key) => refused.has(key))));
  const { policy: _, ...values } = configSchema.parse(
    Object.fromEntries([...settings].map(([key, { value }]) => [key, value])),
  );
  const policy = policySource(settings.get('policy'));
  return { config: Object.freeze({ ...values, ...(policy === undefined ? {} : { policy }) }), problems };
}

/** What the schema refuses in one layer. */
function refusalsOf(layer: Layer): ConfigProblem[] {
  const values = Object.fromEntries([...layer.settings].map(([key, { value }]) => [key, value]));
  const issues = configSchema.safeParse(values).error?.issues ?? [];
  const refusals = new Map<string, ConfigProblem>();
  for (const { path } of issues) {
    const key = path[0] as ConfigKey;
    const setting = layer.settings.get(key) as Setting;
    const { allowed, secret } = describeKey(key);
    const item = path[1];
    const inList = Array.isArray(setting.value) && typeof item === 'number';
    const value: unknown = inList ? (setting.value as unknown[])[item] : setting.value;
    refusals.set(path.join('.'), {
      key,
      message: `found ${secret ? '(secret)' : shown(value)}, allowed is ${allowed}`,
      source: (inList ? setting.itemSources?.[item] : undefined) ?? setting.source,
    });
  }
  return [...refusals.values()];
}

/** A found value for a message: quoted when it is text, so that `"4"` is seen not to be 4; passwords in URLs removed. */
function shown(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a mapping';
  if (typeof value !== 'string') return JSON.stringify(value);
  const text = value.replace(/\/\/.*@/g, '//(secret)@');
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}

function policySource(setting: Setting | undefined): PolicySource | undefined {
  if (setting === undefined) return undefined;
  if (typeof setting.value === 'string') return { kind: 'file', path: setting.value };
  const lineOf = setting.lineOf ?? (() => 1);
  return {
    kind: 'inline',
    value: setting.value,
    source: setting.source.replace(/:\d+$/, ''),
    line: lineOf([]),
    lineOf,
  };
}
