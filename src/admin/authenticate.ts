/** From a request of the admin API to the principal, or the refusal. Tokens of the data plane are not looked up here. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { AuthFailures } from '../credential/auth-failures.js';
import type { TrustedProxies } from '../http/forwarded.js';
import type { Principal } from '../management/principal.js';
import { AdminRefusal } from './problem.js';

export interface AuthenticatorParts {
  /** `TOLLKEEPER_ADMIN_KEY`; undefined: no such key opens anything. */
  readonly adminKey: string | undefined;
  readonly trustedProxies: TrustedProxies;
}

/** Failed credentials per address and minute. */
const failuresMax = 30;

export class Authenticator {
  readonly #adminKeyDigest: Buffer | undefined;
  readonly #trustedProxies: TrustedProxies;
  readonly #failures = new AuthFailures(failuresMax);

  constructor({ adminKey, trustedProxies }: AuthenticatorParts) {
    this.#adminKeyDigest = adminKey === undefined ? undefined : sha256(adminKey);
    this.#trustedProxies = trustedProxies;
  }

  /** The client's address, through trusted proxies. */
  addressOf(request: FastifyRequest): string {
    const forwardedFor = request.headers['x-forwarded-for'] ?? '';
    return this.#trustedProxies.clientAddress(
      request.socket.remoteAddress ?? '',
      typeof forwardedFor === 'string' ? forwardedFor : forwardedFor.join(','),
    );
  }

  /** @throws AdminRefusal for 401 and 429. */
  async authenticate(request: FastifyRequest): Promise<Principal> {
    const { authorization } = request.headers;
    if (authorization === undefined) {
      throw new AdminRefusal('admin-credentials-missing', 'Send an admin key in Authorization, or log in.');
    }
    const address = this.addressOf(request);
    const blockedForS = this.#failures.blockedForS(address, performance.now());
    if (blockedForS > 0) {
      throw new AdminRefusal('too-many-requests', 'Too many invalid admin keys from this address.', blockedForS);
    }
    const key = /^bearer +([\x21-\x7e]{1,512})$/i.exec(authorization)?.[1];
    const principal = key === undefined ? undefined : this.#holderOf(key, address);
    if (principal !== undefined) return principal;
    this.#failures.count(address, performance.now());
    throw new AdminRefusal('admin-credentials-invalid', 'The admin key is not valid.');
  }

  #holderOf(key: string, address: string): Principal | undefined {
    if (this.#adminKeyDigest === undefined || !timingSafeEqual(sha256(key), this.#adminKeyDigest)) return undefined;
    return { kind: 'admin-key', name: 'admin-key', role: 'operator', tenant: null, address };
  }
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
