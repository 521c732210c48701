/** The cookie of a session. Behind HTTPS it is `Secure` and has the `__Host-` prefix: no other host or path can set it. */
import type { CookieSerializeOptions } from '@fastify/cookie';
import type { FastifyReply, FastifyRequest } from 'fastify';

const plainName = 'tollkeeper_session';

/** The id that the browser sent; undefined without one. */
export function sessionIdOf(request: FastifyRequest, secure: boolean): string | undefined {
  return request.cookies[nameOf(secure)];
}

export function setSessionCookie(reply: FastifyReply, id: string, secure: boolean): void {
  reply.setCookie(nameOf(secure), id, attributes(secure));
}

export function clearSessionCookie(reply: FastifyReply, secure: boolean): void {
  reply.clearCookie(nameOf(secure), attributes(secure));
}

function nameOf(secure: boolean): string {
  return secure ? `__Host-${plainName}` : plainName;
}

/** Without an expiry: it goes with the browser, and the server decides when the session ends. */
function attributes(secure: boolean): CookieSerializeOptions {
  return { path: '/', httpOnly: true, sameSite: 'strict', secure };
}
