/**
 * The process' own log: pino, one JSON line an event on standard output. Nothing that opens a door may get into it, so
 * a line is cleaned twice: values under the name of a credential by their name, and tokens, Bearer values and passwords
 * in addresses by their pattern, wherever they stand (a message, a stack, the text of an error).
 */
import { type DestinationStream, type Logger, pino } from 'pino';

export type { Logger } from 'pino';

const redacted = '[redacted]';

/** Names under which nothing is ever printed, compared without case, dashes and underscores. */
const credentialName =
  /^(authorization|proxyauthorization|cookie|setcookie|xapikey|apikey|adminkey|masterkeys?|privatekey|tlskey|password|passwd|pass|secret|secrets|sealedsecret|clientsecret|plaintext|token|bearer|credentials?|signature)$/;

function isCredentialName(name: string): boolean {
  return credentialName.test(name.replace(/[-_]/g, '').toLowerCase());
}

// No word boundaries: in a JSON line an escaped line break ends in a letter.
const patterns: readonly (readonly [RegExp, string])[] = [
  // <prefix>_<id>_<secret and checksum>: the id may stay, it names the token without opening anything.
  [/_([0-9A-Za-z]{12})_[0-9A-Za-z]{38,}/g, `_$1_${redacted}`],
  [/(Bearer|Basic) +[\w.~+/=-]{8,}/gi, `$1 ${redacted}`],
  // scheme://user:password@ and scheme://:password@; the password may hold an @ when nobody escaped it.
  [/:\/\/([^\s"/:@\\]*):[^\s"/\\]+@/g, `://$1:${redacted}@`],
];

/** `text` without tokens, Bearer values and passwords in addresses. Never makes valid JSON invalid. */
function withoutSecrets(text: string): string {
  let clean = text;
  for (const [pattern, replacement] of patterns) clean = clean.replace(pattern, replacement);
  return clean;
}

/** Bindings of a child logger reach the line without passing the formatter: text under a credential's name goes here. */
function withoutCredentialFields(line: string): string {
  return line.replace(/"([\w-]{3,32})":"(?:[^"\\]|\\.)+"/g, (field, name: string) =>
    isCredentialName(name) ? `"${name}":"${redacted}"` : field,
  );
}

const depthMax = 8;

/** A copy of `value` that can be printed: credentials by name removed, errors as plain records without extras. */
function printable(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Error) return printableError(value, depth);
  if (depth === depthMax) return '[deeper]';
  if (Buffer.isBuffer(value)) return `[${value.length} bytes]`;
  if (Array.isArray(value)) return value.map((item) => printable(item, depth + 1));
  if ('toJSON' in value && typeof value.toJSON === 'function') return value;
  return printableFields(value, depth);
}

function printableFields(fields: object, depth: number): Record<string, unknown> {
  const clean: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    const hidden = value !== undefined && value !== null && isCredentialName(name);
    clean[name] = hidden ? redacted : printable(value, depth + 1);
  }
  return clean;
}

/** Not an error's own properties: ioredis attaches the whole command to it, arguments and passwords included. */
function printableError(error: Error, depth: number): Record<string, unknown> {
  const { name, message, stack } = error;
  const code = 'code' in error ? { code: error.code } : {};
  const cause = error.cause === undefined || depth === depthMax ? {} : { cause: printable(error.cause, depth + 1) };
  return { type: name, message, ...code, stack, ...cause };
}

export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent';

/** A logger that writes whole lines to `destination`, by default standard output, at once. */
export function createLogger(level: LogLevel, destination: DestinationStream = pino.destination(1)): Logger {
  return pino(
    {
      level,
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: {
        level: (label) => ({ level: label }),
        log: (fields) => printableFields(fields, 0),
      },
      // Errors are records already when they come here; pino's own serializer would take them for errors again.
      serializers: { err: (error: unknown) => error },
    },
    { write: (line) => destination.write(withoutSecrets(withoutCredentialFields(line))) },
  );
}
