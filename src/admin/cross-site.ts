/**
 * Requests that a browser sends for another site, with the cookie of this one (CSRF). `SameSite=Strict` keeps the cookie
 * from them already; a change also needs a header that no form can send and that another origin could send only after a
 * preflight, which is never answered (CORS is off), and what the browser itself says of the request must not contradict.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { AdminRefusal } from './problem.js';

/** Sent with every change of a session, with whatever value. */
const requestHeader = 'x-tollkeeper-request';

/**
 * `host` is the host that the client asked for.
 * @throws AdminRefusal `cross-site-request`.
 */
export function requireSameSite(headers: IncomingHttpHeaders, host: string): void {
  const site = headers['sec-fetch-site'];
  const { origin } = headers;
  if (headers[requestHeader] === undefined) {
    throw new AdminRefusal('cross-site-request', 'Send the header X-Tollkeeper-Request: 1.');
  }
  if (site !== undefined && site !== 'same-origin') {
    throw new AdminRefusal('cross-site-request', 'The browser says that another site asked for this.');
  }
  if (origin !== undefined && hostOf(origin) !== host.toLowerCase()) {
    throw new AdminRefusal('cross-site-request', 'The Origin is not the host that was asked.');
  }
}

function hostOf(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined;
}
