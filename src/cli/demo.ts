/** `tollkeeper demo`: a whole Tollkeeper to try, until Ctrl-C. */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { OperatorError } from '../core/failure.js';
import type { RunningDemo } from '../demo/run.js';
import type { CliContext } from './context.js';
import { addJsonOption } from './output.js';

interface DemoFlags {
  readonly port?: number;
  readonly adminPort?: number;
  readonly dir: string;
  readonly keep?: true;
  readonly json?: true;
}

/** Registers the command. */
export function registerDemo(program: Command, context: CliContext): void {
  const command = program
    .command('demo')
    .description('try it: starts Redis, a small store and Tollkeeper in front of it, and prints requests to paste')
    .option('--port <port>', 'port of the data plane (default: 8080 if it is free)', portNumber)
    .option('--admin-port <port>', 'port of the admin plane (default: 9090 if it is free)', portNumber)
    .option('--dir <folder>', 'where data, log and configuration go', '.tollkeeper')
    .option('--keep', 'leave tenants, tokens and logs for the next run');
  addJsonOption(command).action((flags: DemoFlags) => runDemo(flags, context));
}

async function runDemo(flags: DemoFlags, context: CliContext): Promise<void> {
  // Before anything is started: a signal during the start must end what is there by then. The listeners stay, since
  // Ctrl-C under npm arrives twice.
  const ended = Promise.race((['SIGINT', 'SIGTERM', 'SIGHUP'] as const).map((signal) => signalled(signal)));
  // Loaded here: no other command should have to load a server.
  const { startDemo } = await import('../demo/run.js');
  const demo = await startDemo({
    directory: resolve(flags.dir),
    port: flags.port,
    adminPort: flags.adminPort,
    keep: flags.keep === true,
  });
  if (flags.json === true) {
    const { close: _, ...facts } = demo;
    context.out(JSON.stringify(facts));
  } else {
    for (const line of introduction(demo, commandName(context.env))) context.out(line);
  }
  await ended;
  if (flags.json !== true) context.out('\nStopping.');
  await demo.close();
}

function signalled(signal: NodeJS.Signals): Promise<void> {
  return new Promise((done) => {
    process.on(signal, () => done());
  });
}

function portNumber(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port > 65_535) {
    throw new OperatorError(`A port is a whole number from 0 to 65535, found ${text}.`, 2);
  }
  return port;
}

/** How the reader runs this command line: `npx` only where it finds this package and asks no registry. */
function commandName(env: NodeJS.ProcessEnv): string {
  if (env.npm_package_name === 'tollkeeper') return 'npx tollkeeper';
  return `node ${shellWord(fileURLToPath(new URL('../main.js', import.meta.url)))}`;
}

function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function introduction(demo: RunningDemo, tollkeeper: string): readonly string[] {
  const { dataUrl, adminUrl, tokens } = demo;
  const bearer = (token: string): string => `-H 'Authorization: Bearer ${token}'`;
  return [
    '',
    'Tollkeeper runs. It stands in front of a small store with two tenants, acme and globex.',
    '',
    `  data plane    ${dataUrl}  (the store itself: ${demo.storeUrl})`,
    `  admin plane   ${adminUrl}/metrics  ${adminUrl}/readyz`,
    `  configuration ${demo.configPath}`,
    `  log           ${demo.logPath}`,
    '',
    'Paste these into another terminal:',
    '',
    '# 200: a Bearer token that may read; the answer shows which headers told the store who called',
    `curl -i ${bearer(tokens.reader)} ${dataUrl}/api/v1/products`,
    '',
    '# 200: the same with a signed request (HMAC); the secret itself never travels',
    `eval "$(TK_SECRET='${tokens.signing}' ${tollkeeper} sign --curl ${dataUrl}/api/v1/products)"`,
    '',
    '# 401: no token',
    `curl -i ${dataUrl}/api/v1/products`,
    '',
    '# 403: this token may not write',
    `curl -i -X POST ${bearer(tokens.reader)} ${dataUrl}/api/v1/orders/1002/retry`,
    '',
    '# 200: this one may',
    `curl -i -X POST ${bearer(tokens.writer)} ${dataUrl}/api/v1/orders/1002/retry`,
    '',
    '# 429: three calls a minute are allowed, these are five',
    `for i in 1 2 3 4 5; do curl -s -o /dev/null -w '%{http_code}\\n' ${bearer(tokens.limited)} ${dataUrl}/api/v1/products; done`,
    '',
    'Then look around:',
    '',
    `${tollkeeper} token list --tenant acme --config ${shellWord(demo.configPath)}`,
    `redis-cli -s ${shellWord(demo.redisSocket)} XREVRANGE "log:{acme}:$(date -u +%F)" + - COUNT 3   # the access log`,
    `curl -s ${adminUrl}/metrics | grep '^tollkeeper_requests_total'`,
    '',
    'Ctrl-C ends it all.',
  ];
}
