/** `tollkeeper gen`: prints the configuration of a proxy that asks Tollkeeper's verify plane about every request. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Argument, type Command } from 'commander';
import { OperatorError } from '../core/failure.js';
import { generators, isProxyName, proxyNames } from '../gen/proxies.js';
import { readSettings } from '../gen/settings.js';
import type { CliContext } from './context.js';
import { addJsonOption, printJson } from './output.js';

interface GenFlags {
  readonly listen: string;
  readonly upstream: string;
  readonly verify: string;
  readonly hmacPrefix?: string;
  readonly apiKeyHeader?: boolean;
  readonly messageSignatures: boolean;
  readonly out?: string;
  readonly json?: true;
}

export function registerGen(program: Command, context: CliContext): void {
  const command = program
    .command('gen')
    .description('print the configuration of a reverse proxy that asks Tollkeeper about every request')
    .addArgument(new Argument('<proxy>', 'the proxy').choices(proxyNames))
    .requiredOption('--upstream <url>', 'the API behind the proxy, such as http://127.0.0.1:3000')
    .option('--verify <url>', "Tollkeeper's verify plane (TOLLKEEPER_VERIFY_LISTEN)", 'http://127.0.0.1:8081')
    .option('--listen <address>', 'where the proxy listens', '0.0.0.0:80')
    .option('--hmac-prefix <prefix>', 'header prefix (default: TOLLKEEPER_HMAC_HEADER_PREFIX, else X-Tollkeeper-)')
    .option('--api-key-header', 'X-API-Key is a credential (default: TOLLKEEPER_API_KEY_HEADER)')
    .option('--no-message-signatures', 'Signature and Signature-Input (RFC 9421) are the business of the upstream')
    .option('--out <folder>', 'write the files there instead of printing the configuration');
  addJsonOption(command).action((proxy: string, flags: GenFlags) => generate(proxy, flags, context));
}

function generate(proxy: string, flags: GenFlags, context: CliContext): void {
  const { env, out, err } = context;
  if (!isProxyName(proxy))
    throw new OperatorError(`There is no proxy "${proxy}": choose one of ${proxyNames.join(', ')}.`, 2);
  const settings = readSettings({
    listen: flags.listen,
    upstream: flags.upstream,
    verify: flags.verify,
    hmacPrefix: flags.hmacPrefix ?? (env.TOLLKEEPER_HMAC_HEADER_PREFIX || 'X-Tollkeeper-'),
    apiKeyHeader: flags.apiKeyHeader ?? env.TOLLKEEPER_API_KEY_HEADER === 'true',
    messageSignatures: flags.messageSignatures && env.TOLLKEEPER_MESSAGE_SIGNATURES !== 'false',
  });
  const files = generators[proxy](settings);
  if (flags.out === undefined) {
    if (flags.json === true) return printJson(context, { files });
    const [configuration, ...others] = files;
    out(configuration?.text.trimEnd() ?? '');
    for (const { name } of others) err(`This configuration loads ${name}: --out FOLDER writes both.`);
    return;
  }
  for (const { name, text } of files) {
    const file = path.join(flags.out, name);
    try {
      mkdirSync(flags.out, { recursive: true });
      writeFileSync(file, text);
    } catch (error) {
      throw new OperatorError(`Cannot write ${file} (${(error as NodeJS.ErrnoException).code ?? 'unknown error'}).`);
    }
    if (flags.json !== true) out(file);
  }
  if (flags.json === true) printJson(context, { files: files.map(({ name }) => path.join(flags.out as string, name)) });
}
