/** The text forms that configuration values take, each a strict check; docs/configuration.md words them. */
import { isIP } from 'node:net';

/** A listener's address; port 0 lets the system choose. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** Reads `host:port` (`[::1]:8080` for IPv6); undefined when it is not one. The host comes without brackets. */
export function parseAddress(text: string): Address | undefined {
  const parts = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  if (parts === null) return undefined;
  const port = Number(parts[3]);
  if (port > 65535) return undefined;
  if (parts[1] !== undefined) return isIP(parts[1]) === 6 ? { host: parts[1], port } : undefined;
  const host = parts[2] as string;
  return isIP(host) === 4 || isHostName(host) ? { host, port } : undefined;
}

/** A DNS name: labels of letters, digits and inner dashes. Digits alone (`10.1`) are a mistyped address. */
export function isHostName(text: string): boolean {
  if (text.length > 253 || /^[\d.]+$/.test(text)) return false;
  return text.split('.').every((label) => /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?$/i.test(label));
}

/** An IPv4 or IPv6 address, or a block of them in CIDR notation. */
export function isAddressBlock(text: string): boolean {
  const [address = '', prefix, ...rest] = text.split('/');
  if (rest.length > 0 || address.includes('%')) return false;
  const family = isIP(address);
  if (family === 0) return false;
  return prefix === undefined || (/^(0|[1-9]\d{0,2})$/.test(prefix) && Number(prefix) <= (family === 4 ? 32 : 128));
}

/** One address of the upstream. */
export type UpstreamAddress = (
  | {
      readonly kind: 'tcp' /** Without brackets. */;
      readonly host: string;
      readonly port: number;
      readonly isTls: boolean;
    }
  | { readonly kind: 'unix' /** Absolute. */; readonly path: string }
) & {
  /** In one spelling, for messages. */
  readonly text: string;
};

/** A path that fits into a socket's address (`sun_path`, 108 bytes with its end) and survives the environment's commas. */
const socketPath = /^\/[^\0,/][^\0,]{0,105}$/;

/**
 * Reads `http(s)://host[:port]` with nothing behind it, since the path of each request is the client's, or
 * `unix:/path/of/socket`; undefined when it is neither.
 */
export function parseUpstreamAddress(text: string): UpstreamAddress | undefined {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length).replace(/^\/\/(?=\/)/, '');
    return socketPath.test(path) ? { kind: 'unix', path, text: `unix:${path}` } : undefined;
  }
  const url = urlOf(text, ['http:', 'https:']);
  if (url === undefined || url.port === '0' || url.username !== '' || url.password !== '') return undefined;
  if (url.pathname !== '/' || /[?#]/.test(text)) return undefined;
  const isTls = url.protocol === 'https:';
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return { kind: 'tcp', host, port: Number(url.port || (isTls ? 443 : 80)), isTls, text: url.origin };
}

/** `redis://`, `rediss://` (TLS) with host, or `unix://` with a path; a database is a number. */
export function isRedisUrl(text: string): boolean {
  const url = urlOf(text, ['redis:', 'rediss:', 'unix:']);
  if (url === undefined || url.hash !== '') return false;
  if (url.protocol === 'unix:') return url.host === '' && url.pathname.length > 1 && isDatabase(url.searchParams);
  return url.hostname !== '' && url.search === '' && /^(\/\d{0,5})?$/.test(url.pathname);
}

function isDatabase(parameters: URLSearchParams): boolean {
  return [...parameters].every(([name, value]) => name === 'db' && /^\d{1,5}$/.test(value));
}

function urlOf(text: string, protocols: readonly string[]): URL | undefined {
  if (!/^[a-z]+:\/\//.test(text) || !URL.canParse(text)) return undefined;
  const url = new URL(text);
  return protocols.includes(url.protocol) ? url : undefined;
}
