/** `tollkeeper explain`: why a request is admitted or refused, check by check; or what became of one that is logged. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { Config } from '../config/schema.js';
import { OperatorError } from '../core/failure.js';
import type { RequestDescription } from '../explain/described-request.js';
import type { Explanation } from '../explain/explanation.js';
import { notAnAddress, parseAddress } from '../http/address.js';
import { isValidHost } from '../http/host.js';
import { loadPolicy } from '../policy/load.js';
import { isTokenId } from '../token/format.js';
import { AdminClient } from './admin-client.js';
import { configOf } from './config-option.js';
import type { CliContext } from './context.js';
import { explainLogged } from './explain-logged.js';
import { addJsonOption, printable, printJson, printTable } from './output.js';
import { serverOf } from './server-option.js';
import { withStore } from './store-session.js';

interface ExplainFlags {
  readonly token?: string;
  readonly request?: string;
  readonly header: readonly string[];
  readonly headersFile?: string;
  readonly bodyFile?: string;
  readonly ip?: string;
  readonly host?: string;
  readonly requestId?: string;
  readonly since: string;
  readonly json?: true;
}

/** Fields whose value is a secret: it must not become visible to the other users of the machine. */
const secretFields = new Set(['authorization', 'x-api-key', 'proxy-authorization', 'cookie']);
const standardInput = 0;

export function registerExplain(program: Command, context: CliContext): void {
  const command = program
    .command('explain')
    .description('say why a request is admitted or refused: every check in order; nothing is charged or used up')
    .option('--request <line>', "the request: 'GET /api/v1/products?page=2', or with a whole URL")
    .option('--token <id>', 'take the secret of this token for shown; not needed when the headers are signed')
    .option(
      '--header <line>',
      "header, 'Name: value'; may be repeated",
      (line, lines: string[]) => [...lines, line],
      [] as string[],
    )
    .option('--headers-file <file>', 'file of such lines, for headers that are secret; - for standard input')
    .option('--body-file <file>', 'file with the body, byte for byte')
    .option('--ip <address>', 'address the connection comes from (default: 127.0.0.1)')
    .option('--host <host>', 'host asked for (default: that of the URL or the Host header)')
    .option('--request-id <id>', 'look a request up in the access log instead')
    .option('--since <time>', 'with --request-id: how far back to look, 10m, 2h, 7d or an RFC 3339 time', '24h');
  addJsonOption(command).action(async (flags: ExplainFlags) => {
    const server = serverOf(command, context);
    const { requestId, since } = flags;
    if (requestId !== undefined) {
      const question = { requestId, since, json: flags.json === true };
      const place = server === undefined ? configOf(command, context) : new AdminClient(server, context);
      return explainLogged(place, question, context);
    }
    const description = describe(flags, server === undefined ? configOf(command, context).tenantHost : undefined);
    if (flags.token !== undefined && !isTokenId(flags.token)) {
      throw new OperatorError("--token takes a token's id: the 12 letters and digits between its last two _.", 2);
    }
    const explanation =
      server === undefined
        ? await explained(configOf(command, context), description, flags.token, context)
        : await askedOf(new AdminClient(server, context), description, flags.token);
    if (flags.json === true) printJson(context, explanation);
    else printExplanation(context, explanation);
    return undefined;
  });
}

async function explained(
  config: Config,
  description: RequestDescription,
  tokenId: string | undefined,
  context: CliContext,
): Promise<Explanation> {
  // The other commands need not load the data plane.
  const { Explainer } = await import('../explain/explain.js');
  return withStore(config, (store) => {
    const note = (message: string): void => context.err(`tollkeeper: ${message}`);
    return new Explainer(config, loadPolicy(config.policy), store, note).explain(description, tokenId);
  });
}

/** What a server says, under the policy that is in force there. */
async function askedOf(
  client: AdminClient,
  { method, target, fields, body, peer, host, scheme }: RequestDescription,
  token: string | undefined,
): Promise<Explanation> {
  const question = {
    request: `${method} ${target}`,
    token,
    headers: fields.map(([name, value]) => ({ name, value })),
    body: body.toString('base64'),
    ip: peer,
    host,
    scheme,
  };
  return (await client.send({ method: 'POST', path: ['explain'], body: question })) as Explanation;
}

/** `tenantHost`: how the host names the tenant, where it does and that is known. */
function describe(flags: ExplainFlags, tenantHost: string | undefined): RequestDescription {
  const line = /^([^ ]+) +([^ ]+)(?: HTTP\/1\.1)?$/.exec(flags.request ?? '');
  if (line === null) {
    throw new OperatorError("Give --request 'METHOD /path?query', or --request-id ID for one that is logged.", 2);
  }
  const [method, written] = [line[1] as string, line[2] as string];
  const url = /^(https?):\/\/([^/?#]+)(.*)$/i.exec(written);
  const target = url === null ? written : (url[3] as string).replace(/^(?!\/)/, '/');
  if (!target.startsWith('/')) throw new OperatorError('The target of --request begins with / or is an http URL.', 2);
  const fields = [...fieldLines(flags.header, false), ...fieldLines(fileLines(flags.headersFile), true)];
  const ofField = fields.find(([name]) => name.toLowerCase() === 'host')?.[1];
  const host = flags.host ?? url?.[2] ?? ofField;
  if (host === undefined && tenantHost !== undefined) {
    throw new OperatorError(`The host names the tenant here (${tenantHost}): give --host.`, 2);
  }
  if (host !== undefined && !isValidHost(host)) throw new OperatorError(`${printable(host)} is no host.`, 2);
  const peer = flags.ip ?? '127.0.0.1';
  if (parseAddress(peer) === notAnAddress) {
    throw new OperatorError(`--ip takes an IPv4 or IPv6 address, found ${printable(peer)}.`, 2);
  }
  return {
    method,
    target,
    fields,
    body: flags.bodyFile === undefined ? Buffer.alloc(0) : readInput(flags.bodyFile, '--body-file'),
    peer,
    host: host ?? 'localhost',
    scheme: url === null ? undefined : ((url[1] as string).toLowerCase() as 'http' | 'https'),
  };
}

function fieldLines(lines: readonly string[], maySecret: boolean): [string, string][] {
  return lines.map((line) => {
    const colon = line.indexOf(':');
    if (colon < 1) throw new OperatorError("A header is written 'Name: value'.", 2);
    const name = line.slice(0, colon);
    if (!maySecret && secretFields.has(name.toLowerCase())) {
      throw new OperatorError(
        `A secret given as an argument can be seen by every user of this machine: put ${name} into a file and name it ` +
          'with --headers-file, or - for standard input.',
        2,
      );
    }
    return [name, line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, '')];
  });
}

function fileLines(path: string | undefined): string[] {
  if (path === undefined) return [];
  const text = readInput(path, '--headers-file').toString('latin1');
  return text.split(/\r?\n/).filter((line) => line !== '');
}

function readInput(path: string, option: string): Buffer {
  try {
    return readFileSync(path === '-' ? standardInput : path);
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? 'unreadable';
    throw new OperatorError(`Cannot read the file named by ${option} (${reason}).`, 2);
  }
}

function printExplanation(context: CliContext, explanation: Explanation): void {
  const { checks, verdict, signature } = explanation;
  printTable(
    context,
    ['check', 'result', 'found'],
    checks.map(({ check, result, found, problem }) => [
      check,
      problem === '' ? result : `${result}: ${problem}`,
      found,
    ]),
  );
  if (signature !== null) {
    context.out('');
    context.out(signature.form === 'hmac' ? 'To be signed (docs/hmac.md):' : 'To be signed (RFC 9421):');
    for (const line of signature.canonicalString.split('\n')) context.out(`  ${printable(line)}`);
    if (signature.matches !== null) {
      context.out(
        `The signature given ${signature.matches ? 'is' : 'is not'} one of this text under the token's secret.`,
      );
    }
  }
  context.out('');
  const outcome = verdict.status === null ? 'admitted' : `${verdict.status} ${verdict.outcome}`;
  context.out(printable(`${outcome}: ${verdict.detail}`));
}
