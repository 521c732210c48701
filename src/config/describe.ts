/** Renders docs/configuration.md from the schema, so that the page cannot say anything else than the code does. */
import { type ConfigKey, configKeys, defaultOf, describeKey, environmentName, reloadableKeys } from './schema.js';
import type { KeyDescription } from './keys/key.js';

/** The whole page, Markdown, without a trailing line break. */
export function configurationPage(): string {
  const reloadable = reloadableKeys.map((key) => `\`${key}\``).join(', ');
  return `# Configuration

Every key can be set in one YAML file (\`tollkeeper --config tollkeeper.yaml …\`) and in the environment. A flag of a
command wins over the environment, the environment over the file, the file over the default.

- An unknown key, an unknown \`TOLLKEEPER_…\` variable, a wrong type or a contradiction stops the start. All of them
  are named at once, each with the place where it stands.
- Lists are YAML lists in the file and separated by commas in the environment. An empty variable counts as not set.
- A **secret** can also be given as a file that holds it: \`${environmentName('masterKey')}_FILE=/run/secrets/master-key\`
  or \`masterKeyFile: /run/secrets/master-key\`. Secrets are never printed.
- Relative paths start from the folder of the YAML file, in the environment from the working directory.
- Variables that Kubernetes sets for a Service named \`tollkeeper\` (\`TOLLKEEPER_SERVICE_HOST\`, \`TOLLKEEPER_PORT\`, …)
  are ignored.
- SIGHUP reloads ${reloadable}; every other key needs a restart. A new file with a problem is refused, the old values stay.
- \`tollkeeper doctor\` checks the configuration, Redis, the upstream and the limits of the process.

${groups().map(groupSection).join('\n\n')}

## A complete file

\`\`\`yaml
${exampleFile()}
\`\`\``;
}

/** A YAML file with every key: defaults as they are, keys without a default as a comment with a fitting value. */
export function exampleFile(): string {
  return groups()
    .map(([group, keys]) => [`# ${group}`, ...keys.map(exampleLine)].join('\n'))
    .join('\n\n');
}

function groups(): [string, ConfigKey[]][] {
  const found = new Map<string, ConfigKey[]>();
  for (const key of configKeys) {
    const { group } = describeKey(key);
    found.set(group, [...(found.get(group) ?? []), key]);
  }
  return [...found];
}

function groupSection([group, keys]: [string, ConfigKey[]]): string {
  const rows = keys.map((key) => {
    const about = describeKey(key);
    const secret = about.secret ? ' **Secret.**' : '';
    const meaning = `${about.meaning}${secret} Allowed: ${about.allowed}.`;
    return `| \`${key}\` | \`${environmentName(key)}\` | ${defaultCell(key)} | ${meaning.replaceAll('|', '\\|')} |`;
  });
  return [`## ${group}`, '', '| key | environment | default | meaning |', '|---|---|---|---|', ...rows].join('\n');
}

function defaultCell(key: ConfigKey): string {
  const { defaultIs } = describeKey(key);
  if (defaultIs !== undefined) return defaultIs;
  const value = defaultOf(key);
  if (value === undefined) return 'none';
  if (Array.isArray(value) && value.length === 0) return 'empty';
  return `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``;
}

function exampleLine(key: ConfigKey): string {
  const about = describeKey(key);
  if (about.defaultIs !== undefined) return `# ${key}: ${exampleValue(about)} # default: ${about.defaultIs}`;
  const value = defaultOf(key);
  if (value !== undefined) return `${key}: ${yamlValue(value)}`;
  if (about.kind === 'policy') return examplePolicy;
  // A secret that is no address is better kept out of the file.
  const name = about.secret && about.example?.startsWith('/') ? `${key}File` : key;
  return `${alwaysSet.includes(key) ? '' : '# '}${name}: ${exampleValue(about)}`;
}

/** What `serve` cannot do without. */
const alwaysSet: readonly ConfigKey[] = ['upstream', 'redisUrl'];

const examplePolicy = `policy: # or the path of a file that holds it
  default: deny
  scopes: [products:read, orders:write]
  routes:
    - { methods: [GET, HEAD], path: "/api/v1/products/{id}", scope: products:read }
    - { methods: [POST], path: "/api/v1/orders/{id}/retry", scope: orders:write, cost: 5 }
    - { methods: [GET], path: /status, public: true }`;

function exampleOf(about: KeyDescription): string {
  if (about.example === undefined) throw new Error('a key without a default needs an example');
  return about.example;
}

function exampleValue(about: KeyDescription): string {
  const example = exampleOf(about);
  if (about.kind === 'list') return `[${example.split(', ').map(yamlValue).join(', ')}]`;
  return about.kind === 'integer' ? example : yamlValue(example);
}

/** JSON is YAML, and plain words need no quotes. */
function yamlValue(value: unknown): string {
  return typeof value === 'string' && /^[A-Za-z/][\w/.-]*(:\/\/[\w.:/-]+)?$/.test(value)
    ? value
    : JSON.stringify(value);
}
