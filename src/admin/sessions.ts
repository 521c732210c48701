/** `/v1/login`, `/v1/logout` and `/v1/me`: people and their sessions. */
import { z } from 'zod';
import type { Management } from '../management/management.js';
import type { Principal } from '../management/principal.js';
import { userChange } from '../management/user-operations.js';
import { ForbiddenError, NotFoundError } from '../tenant/refusal.js';
import type { LoginAttempts } from '../user/login-attempts.js';
import { verifyPassword } from '../user/password.js';
import type { Session, Sessions } from '../user/session.js';
import { passwordInput, toUserView, type UserRecord } from '../user/user.js';
import { type Authenticator, principalOf } from './authenticate.js';
import { requirePassword } from './confirmation.js';
import { AdminRefusal } from './problem.js';
import { type AnyRoute, route } from './route.js';
import { loginSchema, principalSchema, sessionSchema, userSchema } from './schemas.js';
import { clearSessionCookie, sessionIdOf, setSessionCookie } from './session-cookie.js';

const tag = 'Sessions';

export interface SessionParts {
  readonly management: Management;
  readonly authenticator: Authenticator;
  readonly sessions: Sessions;
  readonly attempts: LoginAttempts;
}

export function sessionRoutes(parts: SessionParts): readonly AnyRoute[] {
  const { management, authenticator, sessions, attempts } = parts;
  const { users } = management;
  return [
    route({
      method: 'POST',
      path: '/login',
      id: 'login',
      tag,
      summary: 'Log in: the answer sets the cookie of a new session',
      description:
        'Needs the header `X-Tollkeeper-Request`, as every change of a session. A failed login is slow, says nothing ' +
        'about the account, and counts.',
      open: true,
      body: z.strictObject({ name: z.string().max(63), password: z.string().max(256) }),
      answer: { status: 200, schema: loginSchema, description: 'Who is logged in, and until when' },
      handle: async ({ body: { name, password }, request, reply }) => {
        authenticator.requireSameSite(request);
        const address = authenticator.addressOf(request);
        const waitS = await attempts.charge(name, address);
        if (waitS > 0)
          throw new AdminRefusal('too-many-requests', 'Too many failed logins: wait, then try again.', waitS);
        const user = await users.find(name);
        if (!(await verifyPassword(user?.passwordHash, password)) || user === null) {
          throw new AdminRefusal('login-failed', 'Name or password is wrong.');
        }
        await attempts.succeeded(name, address);
        const secure = authenticator.isSecure(request);
        // Whatever session the browser had ends: the id is always a new one.
        const before = sessionIdOf(request, secure);
        const ended = before === undefined ? undefined : await sessions.resume(before);
        const principal = principalOf(user, 'session', address);
        const change = { ...userChange('login', user), mustSurvive: false };
        const { id, session } = await management.audited(principal, change, () =>
          sessions.open(user, address, request.headers['user-agent'] ?? '', ended),
        );
        setSessionCookie(reply, id, secure);
        return { user: toUserView(user), endsAt: new Date(session.endsAt).toISOString() };
      },
    }),
    route({
      method: 'POST',
      path: '/logout',
      id: 'logout',
      tag,
      summary: 'End this session, or all of yours',
      repeatable: true,
      body: z.strictObject({ everywhere: z.boolean().default(false) }),
      answer: { status: 204, description: 'It is ended, and the cookie taken back' },
      handle: async ({ principal, body: { everywhere }, request, reply }) => {
        const { session, user } = await ownSession(principal, request.session, parts);
        const change = { ...userChange('logout', user), details: { everywhere } };
        await management.audited(principal, change, async () => {
          if (everywhere) await users.endSessions(user.name);
          await sessions.end(session);
        });
        clearSessionCookie(reply, authenticator.isSecure(request));
      },
    }),
    route({
      method: 'GET',
      path: '/me',
      id: 'showMe',
      tag,
      summary: 'Who the credential belongs to, and what it may do',
      answer: { status: 200, schema: principalSchema, description: 'The principal' },
      handle: ({ principal: { kind, name, role, tenant }, request: { session } }) =>
        Promise.resolve({
          kind,
          name,
          role,
          tenant,
          sessionEndsAt: session === null ? null : new Date(session.endsAt).toISOString(),
        }),
    }),
    route({
      method: 'GET',
      path: '/me/sessions',
      id: 'listMySessions',
      tag,
      summary: 'Your sessions, newest first',
      answer: { status: 200, schema: z.strictObject({ data: z.array(sessionSchema) }), description: 'At most 20' },
      handle: async ({ principal, request }) => {
        const { session, user } = await ownSession(principal, request.session, parts);
        return { data: (await sessions.list(user)).map((other) => sessionView(other, session)) };
      },
    }),
    route({
      method: 'DELETE',
      path: '/me/sessions/{session}',
      id: 'endMySession',
      tag,
      summary: 'End one of your sessions',
      params: z.strictObject({ session: z.string() }),
      answer: { status: 204, description: 'It is ended' },
      handle: async ({ principal, params, request }) => {
        const { user } = await ownSession(principal, request.session, parts);
        const ended = (await sessions.list(user)).find(({ digest }) => digest === params.session);
        if (ended === undefined) throw new NotFoundError('There is no such session.');
        await management.audited(principal, userChange('logout', user), () => sessions.end(ended));
      },
    }),
    route({
      method: 'POST',
      path: '/me/password',
      id: 'changeMyPassword',
      tag,
      summary: 'Change your password; all your sessions end',
      repeatable: true,
      body: z.strictObject({ currentPassword: z.string().max(256), password: passwordInput }),
      answer: { status: 200, schema: userSchema, description: 'The user; log in again' },
      handle: async ({ principal, body: { currentPassword, password }, request, reply }) => {
        const { user } = await ownSession(principal, request.session, parts);
        await requirePassword(user.name, principal.address, currentPassword, { users, attempts });
        const record = await management.audited(principal, userChange('password', user), () =>
          users.update(user.name, { password }),
        );
        clearSessionCookie(reply, authenticator.isSecure(request));
        return toUserView(record);
      },
    }),
  ];
}

/** @throws ForbiddenError when it is no session that asks. */
async function ownSession(
  { kind, name }: Principal,
  session: Session | null,
  { management }: SessionParts,
): Promise<{ session: Session; user: UserRecord }> {
  if (kind !== 'session' || session === null) throw new ForbiddenError('This is for people who logged in.');
  return { session, user: await management.users.get(name) };
}

function sessionView({ digest, createdAt, endsAt, address, userAgent }: Session, current: Session) {
  return {
    id: digest,
    createdAt: new Date(createdAt).toISOString(),
    endsAt: new Date(endsAt).toISOString(),
    address,
    userAgent,
    current: digest === current.digest,
  };
}
