/**
 * The password again, before what cannot be undone (docs/adr/0011): a stolen session, or a browser left open, is not
 * enough to revoke, delete or reveal. A login of the last five minutes is as good. A key of the configuration or of a
 * person is a credential that was presented with this very request; only to reveal a secret, and to make or change a user
 * whose login would be fresh, a person's password is asked for with a personal key too.
 */
import type { FastifyRequest } from 'fastify';
import type { LoginAttempts } from '../user/login-attempts.js';
import { verifyPassword } from '../user/password.js';
import type { UserRepository } from '../user/repository.js';
import { AdminRefusal } from './problem.js';
import type { AnyRoute } from './route.js';

const freshMs = 5 * 60_000;

export interface ConfirmationParts {
  readonly users: UserRepository;
  readonly attempts: LoginAttempts;
}

/** @throws AdminRefusal when it is needed and missing or wrong. */
export async function requireConfirmation(
  request: FastifyRequest,
  { confirmed }: AnyRoute,
  parts: ConfirmationParts,
): Promise<void> {
  const { principal, session } = request;
  if (confirmed === undefined || principal === null || principal.kind === 'admin-key') return;
  if (principal.kind === 'personal-key' && confirmed === 'session') return;
  const given = request.headers['x-confirm-password'];
  if (given === undefined) {
    if (session !== null && Date.now() - session.createdAt < freshMs) return;
    throw new AdminRefusal('password-required', 'Send your password in X-Confirm-Password.');
  }
  // A header is bytes; what is sent is UTF-8.
  const password = Buffer.from(String(given), 'latin1').toString('utf8');
  await requirePassword(principal.name, principal.address, password, parts);
}

/** @throws AdminRefusal when it is not the user's password; a guess counts as one at the login. */
export async function requirePassword(
  name: string,
  address: string,
  password: string,
  { users, attempts }: ConfirmationParts,
): Promise<void> {
  const waitS = await attempts.charge(name, address);
  if (waitS > 0) throw new AdminRefusal('too-many-requests', 'Too many wrong passwords: wait, then try again.', waitS);
  const user = await users.find(name);
  if (!(await verifyPassword(user?.passwordHash, password))) {
    throw new AdminRefusal('password-required', 'The password is wrong.');
  }
  await attempts.succeeded(name, address);
}
