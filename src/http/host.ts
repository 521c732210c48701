/** The Host header, strictly: it names the tenant and goes upstream as X-Forwarded-Host. */
import { isIPv6 } from 'node:net';

const lengthMax = 255;
const colon = 0x3a;
const dot = 0x2e;

const nameCharacter = Uint8Array.from({ length: 0x80 }, (_, code) =>
  /[A-Za-z0-9._-]/.test(String.fromCharCode(code)) ? 1 : 0,
);

/**
 * Whether a value is one host with an optional port: a DNS name (letters, digits, `-`, `_`, no empty label but a last
 * one), an IPv4 address or an IPv6 address in brackets; a port of 1 to 5 digits, at most 65535. Narrower than RFC 3986,
 * which would allow escapes, delimiters and an empty port: no client needs them and two parsers may read them apart.
 */
export function isValidHost(value: string): boolean {
  const length = value.length;
  if (length === 0 || length > lengthMax) return false;
  if (value.charCodeAt(0) === 0x5b) return isValidIpv6Host(value);
  let labelStart = 0;
  let at = 0;
  for (; at < length; at++) {
    const code = value.charCodeAt(at);
    if (code === colon) break;
    if (code > 0x7e || nameCharacter[code] === 0) return false;
    if (code === dot) {
      if (at === labelStart) return false;
      labelStart = at + 1;
    }
  }
  return at > 0 && (at === length || isValidPort(value, at + 1));
}

function isValidIpv6Host(value: string): boolean {
  const end = value.indexOf(']');
  const address = value.slice(1, end);
  if (end === -1 || address.includes('%') || !isIPv6(address)) return false;
  if (end === value.length - 1) return true;
  return value.charCodeAt(end + 1) === colon && isValidPort(value, end + 2);
}

function isValidPort(value: string, from: number): boolean {
  const count = value.length - from;
  if (count < 1 || count > 5) return false;
  let port = 0;
  for (let at = from, { length } = value; at < length; at++) {
    const digit = value.charCodeAt(at) - 0x30;
    if (digit < 0 || digit > 9) return false;
    port = port * 10 + digit;
  }
  return port <= 65535;
}

/**
 * The tenant that a valid host names under a pattern such as `*.example.com`: exactly one label in place of the `*`, in
 * lower case, the port ignored. '' when the host is not of that form.
 */
export function tenantOfHost(host: string, pattern: string): string {
  let end = host.indexOf(':');
  if (end === -1) end = host.length;
  if (host.charCodeAt(end - 1) === dot) end--;
  const suffixLength = pattern.length - 1;
  const label = host.slice(0, Math.max(0, end - suffixLength));
  if (label === '' || label.includes('.')) return '';
  if (host.slice(label.length, end).toLowerCase() !== pattern.slice(1).toLowerCase()) return '';
  return label.toLowerCase();
}
