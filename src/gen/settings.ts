/** What a generated proxy configuration is made from. All of it ends up in configuration text, so all of it is strict. */
import { type Address, parseAddress, parseUpstreamAddress } from '../config/formats.js';
import { OperatorError } from '../core/failure.js';

export interface Origin {
  readonly scheme: 'http' | 'https';
  /** IPv6 addresses in brackets. */
  readonly host: string;
  readonly port: number;
}

export interface GenSettings {
  readonly listen: Address;
  readonly upstream: Origin;
  /** Where Tollkeeper's verify plane listens. */
  readonly verify: Origin;
  /** As configured in Tollkeeper, such as `X-Tollkeeper-`. */
  readonly hmacPrefix: string;
  /** Tollkeeper takes X-API-Key as a credential. */
  readonly apiKeyHeader: boolean;
  /** Tollkeeper takes HTTP Message Signatures (RFC 9421). */
  readonly messageSignatures: boolean;
}

export interface GeneratedFile {
  readonly name: string;
  readonly text: string;
}

/** Makes the files for one proxy; the first one is the configuration, others are what it loads. */
export type Generator = (settings: GenSettings) => readonly GeneratedFile[];

export interface GenOptions {
  readonly listen: string;
  readonly upstream: string;
  readonly verify: string;
  readonly hmacPrefix: string;
  readonly apiKeyHeader: boolean;
  readonly messageSignatures: boolean;
}

/**
 * Checks the options of `tollkeeper gen`.
 * @throws OperatorError with exit code 2 for one that cannot be right.
 */
export function readSettings(options: GenOptions): GenSettings {
  const listen = parseAddress(options.listen);
  if (listen === undefined || listen.port === 0) {
    throw new OperatorError(`--listen must be host:port, such as 0.0.0.0:80; found "${options.listen}".`, 2);
  }
  const verify = originOf('--verify', options.verify, 'http://127.0.0.1:8081');
  if (verify.scheme === 'https') {
    throw new OperatorError('--verify must be http://host:port: the verify plane has no TLS, keep it on this host.', 2);
  }
  if (!/^[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*-$/.test(options.hmacPrefix)) {
    throw new OperatorError('--hmac-prefix must be the value of TOLLKEEPER_HMAC_HEADER_PREFIX, such as X-Acme-.', 2);
  }
  return {
    listen,
    upstream: originOf('--upstream', options.upstream, 'http://127.0.0.1:3000'),
    verify,
    hmacPrefix: options.hmacPrefix,
    apiKeyHeader: options.apiKeyHeader,
    messageSignatures: options.messageSignatures,
  };
}

function originOf(option: string, text: string, example: string): Origin {
  if (
    parseUpstreamAddress(text) === undefined ||
    !/^https?:\/\/(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d+)?\/?$/i.test(text)
  ) {
    throw new OperatorError(`${option} must be a URL of scheme, host and port, such as ${example}.`, 2);
  }
  const url = new URL(text);
  const scheme = url.protocol === 'https:' ? 'https' : 'http';
  return { scheme, host: url.hostname, port: Number(url.port || (scheme === 'https' ? 443 : 80)) };
}

/** `host:port`, IPv6 in brackets. */
export function authorityOf({ host, port }: Origin): string {
  return `${host}:${port}`;
}

/** `host:port` of a listener, IPv6 in brackets. */
export function bindOf({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** The command that made a file, for its head comment. */
export function commandLine(proxy: string, settings: GenSettings): string {
  const { listen, upstream, verify, hmacPrefix, apiKeyHeader, messageSignatures } = settings;
  return [
    `tollkeeper gen ${proxy} --listen ${bindOf(listen)} --upstream ${upstream.scheme}://${authorityOf(upstream)}`,
    `--verify ${verify.scheme}://${authorityOf(verify)}`,
    ...(hmacPrefix === 'X-Tollkeeper-' ? [] : [`--hmac-prefix ${hmacPrefix}`]),
    ...(apiKeyHeader ? ['--api-key-header'] : []),
    ...(messageSignatures ? [] : ['--no-message-signatures']),
  ].join(' ');
}
