/** `tollkeeper sign`: signs one request with an HMAC token and prints the headers, or a complete curl line. */
import { readFileSync } from 'node:fs';
import { isatty } from 'node:tty';
import { type Command, Option } from 'commander';
import { OperatorError } from '../core/failure.js';
import { signRequest, type SignedRequest } from '../sign/sign.js';
import { parseToken } from '../token/format.js';
import type { CliContext } from './context.js';

const standardInput = 0;

/** Where the secret comes from when no file is named. Not `TOLLKEEPER_…`: it is no part of the configuration. */
const secretVariable = 'TK_SECRET';

interface SignOptions {
  readonly method?: string;
  readonly data?: string;
  readonly dataFile?: string;
  readonly secretFile?: string;
  readonly timestamp?: string;
  /** false: `--no-nonce`. */
  readonly nonce?: string | false;
  readonly headerPrefix?: string;
  readonly declareBody?: boolean;
  readonly curl?: boolean;
  readonly json?: boolean;
  readonly secret?: true;
}

export function registerSign(program: Command, context: CliContext): void {
  program
    .command('sign')
    .description(
      `sign a request with an HMAC token; the secret comes from ${secretVariable}, --secret-file or standard input`,
    )
    .argument('<url>', 'URL of the request, or only its path and query')
    .option('-X, --method <method>', 'method (default: GET, with a body POST)')
    .option('-d, --data <text>', 'body')
    .option('--data-file <file>', 'file with the body, sent byte for byte; - for standard input')
    .option('--secret-file <file>', 'file with the secret; - for standard input')
    .option('--timestamp <seconds>', 'Unix seconds (default: now)')
    .option('--nonce <text>', 'nonce, 1 to 64 visible characters (default: a random one)')
    .option('--no-nonce', 'sign without a nonce: the same request passes once a second')
    .option('--header-prefix <prefix>', 'header prefix (default: TOLLKEEPER_HMAC_HEADER_PREFIX, else X-Tollkeeper-)')
    .option('--declare-body', "also send the body's digest, for set-ups where Tollkeeper does not see the body")
    .option('--curl', 'print a complete curl line')
    .option('--json', 'print JSON: url, method, headers and the canonical string that was signed')
    // Known only to be refused in words: commander would echo an unknown option, secret and all.
    .addOption(new Option('--secret [value]').hideHelp().argParser(() => true as const))
    .action((url: string, options: SignOptions) => sign(url, options, context));
}

function sign(url: string, options: SignOptions, context: CliContext): void {
  if (options.secret !== undefined) {
    throw new OperatorError(
      `A secret given as an argument can be seen by every user of this machine: use ${secretVariable}, --secret-file or standard input, and rotate this token.`,
      2,
    );
  }
  if (options.data !== undefined && options.dataFile !== undefined) {
    throw new OperatorError('Give the body once: either --data or --data-file.', 2);
  }
  if (options.dataFile === '-' && options.secretFile === '-') {
    throw new OperatorError('Standard input can be the secret or the body, not both.', 2);
  }
  if (options.curl === true && options.json === true) throw new OperatorError('Choose one of --curl and --json.', 2);
  if (options.curl === true && url.startsWith('/')) {
    throw new OperatorError('--curl needs a complete URL, such as http://127.0.0.1:8080/api/v1/products.', 2);
  }
  const secret = readSecret(options, context.env);
  const body =
    options.dataFile === undefined ? (options.data ?? '') : readInput(options.dataFile, '--data-file', 'the body');
  const hasBody = options.data !== undefined || options.dataFile !== undefined;
  const method = options.method ?? (hasBody ? 'POST' : 'GET');
  const headerPrefix = options.headerPrefix ?? (context.env.TOLLKEEPER_HMAC_HEADER_PREFIX || undefined);

  let signed: SignedRequest;
  try {
    signed = signRequest({
      secret,
      method,
      url,
      body,
      ...(options.timestamp === undefined ? {} : { timestamp: wholeSeconds(options.timestamp) }),
      ...(options.nonce === undefined ? {} : { nonce: options.nonce === false ? '' : options.nonce }),
      ...(headerPrefix === undefined ? {} : { headerPrefix }),
      declareBody: options.declareBody === true,
    });
  } catch (error) {
    if (error instanceof TypeError) throw new OperatorError(`Cannot sign this request: ${error.message}.`, 2);
    throw error;
  }

  const sentUrl = url.startsWith('/') ? url : new URL(url).origin + targetOf(signed);
  if (options.json === true) {
    context.out(JSON.stringify({ method, url: sentUrl, ...signed }));
  } else if (options.curl === true) {
    context.out(curlLine(method, sentUrl, signed, hasBody ? options : {}));
  } else {
    for (const [name, value] of Object.entries(signed.headers)) context.out(`${name}: ${value}`);
  }
}

function readSecret(options: SignOptions, env: NodeJS.ProcessEnv): string {
  const fromEnvironment = env[secretVariable];
  let secret: string;
  if (options.secretFile !== undefined) {
    secret = readInput(options.secretFile, '--secret-file', 'the secret').toString('utf8');
  } else if (fromEnvironment !== undefined && fromEnvironment !== '') {
    secret = fromEnvironment;
  } else if (options.dataFile === '-' || isatty(standardInput)) {
    throw new OperatorError(
      `No secret was given: set ${secretVariable}, name a file with --secret-file, or pipe it into standard input.`,
      2,
    );
  } else {
    secret = readInput('-', '--secret-file', 'the secret').toString('utf8');
  }
  secret = secret.trim();
  const prefix = secret.slice(0, -(1 + 12 + 1 + 38));
  if (parseToken(secret, prefix) === null) {
    throw new OperatorError(
      secret === ''
        ? `The secret is empty: set ${secretVariable}, name a file with --secret-file, or pipe it into standard input.`
        : 'The secret is not a whole token (its checksum does not match): copy it again, from the prefix to the last character.',
      2,
    );
  }
  return secret;
}

function readInput(path: string, option: string, what: string): Buffer {
  try {
    return readFileSync(path === '-' ? standardInput : path);
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? 'unreadable';
    const place = path === '-' ? 'standard input' : `the file named by ${option}`;
    throw new OperatorError(`Cannot read ${what} from ${place} (${reason}).`, 2);
  }
}

function wholeSeconds(text: string): number {
  return /^\d{1,12}$/.test(text) ? Number(text) : Number.NaN;
}

/** The second line of what was signed; the URL that is printed must lead to exactly this. */
function targetOf(signed: SignedRequest): string {
  return signed.canonicalString.split('\n', 2)[1] as string;
}

/** `--globoff` and `--path-as-is`: curl must send the target as it was signed. */
function curlLine(
  method: string,
  url: string,
  signed: SignedRequest,
  { data, dataFile }: Pick<SignOptions, 'data' | 'dataFile'>,
): string {
  const parts = ['curl', '--globoff', '--path-as-is'];
  if (method === 'HEAD') parts.push('--head');
  else parts.push('-X', method);
  for (const [name, value] of Object.entries(signed.headers)) parts.push('-H', shellQuoted(`${name}: ${value}`));
  if (data !== undefined) {
    if (isJson(data)) parts.push('-H', shellQuoted('Content-Type: application/json'));
    // --data-raw: to curl, a leading @ in --data-binary is the name of a file.
    parts.push('--data-raw', shellQuoted(data));
  }
  if (dataFile !== undefined) parts.push('--data-binary', shellQuoted(`@${dataFile}`));
  parts.push(shellQuoted(url));
  return parts.join(' ');
}

/** One word for a POSIX shell, whatever it holds. */
function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
