/** From a request of the admin API to the principal, or the refusal. Tokens of the data plane are not looked up here. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { AuthFailures } from '../credential/auth-failures.js';
import { LRUCache } from 'lru-cache';
import type { TrustedProxies } from '../http/forwarded.js';
import type { Principal } from '../management/principal.js';
import type { AdminKeys } from '../user/admin-key.js';
import type { UserRepository } from '../user/repository.js';
import type { Session, Sessions } from '../user/session.js';
import type { UserRecord } from '../user/user.js';
import { requireSameSite } from './cross-site.js';
import { AdminRefusal } from './problem.js';
import { sessionIdOf } from './session-cookie.js';

export interface AuthenticatorParts {
  /** `TOLLKEEPER_ADMIN_KEY`; undefined: no such key opens anything. */
  readonly adminKey: string | undefined;
  readonly users: UserRepository;
  readonly adminKeys: AdminKeys;
  readonly sessions: Sessions;
  readonly trustedProxies: TrustedProxies;
}

export interface Authenticated {
  readonly principal: Principal;
  /** Of a session. */
  readonly session?: Session;
}

/** Failed credentials per address and minute. */
const failuresMax = 30;
const rightMax = 10_000;

export class Authenticator {
  readonly #parts: AuthenticatorParts;
  readonly #adminKeyDigest: Buffer | undefined;
  readonly #failures = new AuthFailures(failuresMax);
  /** SHA-256 of the credentials that were right, as they were sent. */
  readonly #wasRight = new LRUCache<string, true>({ max: rightMax });

  constructor(parts: AuthenticatorParts) {
    this.#parts = parts;
    this.#adminKeyDigest = parts.adminKey === undefined ? undefined : sha256(parts.adminKey);
  }

  /** The client's address, through trusted proxies. */
  addressOf(request: FastifyRequest): string {
    const peer = request.socket.remoteAddress ?? '';
    return this.#parts.trustedProxies.clientAddress(peer, fieldOf(request, 'x-forwarded-for'));
  }

  /** Whether the client speaks HTTPS, with a trusted proxy in front: this listener has none itself. */
  isSecure(request: FastifyRequest): boolean {
    const peer = request.socket.remoteAddress ?? '';
    return this.#parts.trustedProxies.scheme(peer, fieldOf(request, 'x-forwarded-proto'), 'http') === 'https';
  }

  /** @throws AdminRefusal `cross-site-request`, for what a session or a login asks for. */
  requireSameSite(request: FastifyRequest): void {
    const peer = request.socket.remoteAddress ?? '';
    const host = this.#parts.trustedProxies.host(
      peer,
      fieldOf(request, 'x-forwarded-host'),
      request.headers.host ?? '',
    );
    requireSameSite(request.headers, host);
  }

  /** @throws AdminRefusal for 401, 403 and 429. */
  async authenticate(request: FastifyRequest): Promise<Authenticated> {
    const { authorization } = request.headers;
    const sessionId = authorization === undefined ? sessionIdOf(request, this.isSecure(request)) : undefined;
    if (authorization === undefined && sessionId === undefined) {
      throw new AdminRefusal('admin-credentials-missing', 'Send an admin key in Authorization, or log in.');
    }
    const address = this.addressOf(request);
    // The id of a session cannot be guessed, and one that has ended is nobody's fault: only keys count as failures.
    const found =
      sessionId === undefined
        ? await this.#holderOfCounted(authorization ?? '', address)
        : await this.#holderOfSession(await this.#parts.sessions.resume(sessionId), address);
    if (found === undefined) {
      throw new AdminRefusal('admin-credentials-invalid', 'The admin key or session is not valid, or has ended.');
    }
    const isRead = request.method === 'GET' || request.method === 'HEAD';
    if (found.session !== undefined && !isRead) this.requireSameSite(request);
    return found;
  }

  /** A key that was right before is not held up by what others try from its address; it is checked all the same. */
  async #holderOfCounted(authorization: string, address: string): Promise<Authenticated | undefined> {
    const digest = sha256(authorization).toString('hex');
    const blockedForS = this.#failures.blockedForS(address, performance.now());
    if (blockedForS > 0 && !this.#wasRight.has(digest)) {
      throw new AdminRefusal('too-many-requests', 'Too many invalid admin keys from this address.', blockedForS);
    }
    const found = await this.#holderOf(authorization, address);
    if (found === undefined) {
      this.#wasRight.delete(digest);
      this.#failures.count(address, performance.now());
    } else this.#wasRight.set(digest, true);
    return found;
  }

  /**
   * Who a request that was authenticated belongs to by now, for an answer that lasts; undefined: nobody any more. It keeps
   * no session from being idle, and counts as no failure.
   */
  async current(request: FastifyRequest): Promise<Principal | undefined> {
    const { authorization } = request.headers;
    const address = this.addressOf(request);
    if (authorization !== undefined) return (await this.#holderOf(authorization, address))?.principal;
    const sessionId = sessionIdOf(request, this.isSecure(request)) ?? '';
    const session = await this.#parts.sessions.peek(sessionId);
    return (await this.#holderOfSession(session, address))?.principal;
  }

  async #holderOf(authorization: string, address: string): Promise<Authenticated | undefined> {
    const key = /^bearer +([\x21-\x7e]{1,512})$/i.exec(authorization)?.[1];
    if (key === undefined) return undefined;
    if (this.#adminKeyDigest !== undefined && timingSafeEqual(sha256(key), this.#adminKeyDigest)) {
      return { principal: { kind: 'admin-key', name: 'admin-key', role: 'operator', tenant: null, address } };
    }
    const record = await this.#parts.adminKeys.match(key);
    if (record === undefined) return undefined;
    const user = await this.#parts.users.find(record.user);
    if (user === null || user.uid !== record.uid) return undefined;
    return { principal: principalOf(user, 'personal-key', address) };
  }

  async #holderOfSession(session: Session | undefined, address: string): Promise<Authenticated | undefined> {
    if (session === undefined) return undefined;
    const user = await this.#parts.users.find(session.user);
    if (user === null || user.uid !== session.uid || user.sessionEpoch !== session.epoch) return undefined;
    return { principal: principalOf(user, 'session', address), session };
  }
}

/** What a user may do at this moment. */
export function principalOf(
  { name, role, tenant }: UserRecord,
  kind: 'session' | 'personal-key',
  address: string,
): Principal {
  return { kind, name, role, tenant, address };
}

function fieldOf(request: FastifyRequest, name: string): string {
  const value = request.headers[name] ?? '';
  return typeof value === 'string' ? value : value.join(',');
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
