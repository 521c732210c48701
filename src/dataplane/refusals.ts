/** The pipeline's own refusals; those of a credential, of the framing and of authorization are with what decides them. */
import { deny } from '../core/problems.js';

export const badPath = deny(
  'malformed-request',
  'The path must be plain: no dot segments, empty segments or odd escapes.',
);
export const notNormalPath = deny(
  'malformed-request',
  'Behind a proxy the path must be in its normal form: upper-case hex, no escapes of letters, digits or - . _ ~.',
);
export const badQuery = deny('malformed-request', 'The query holds a byte that no URI may hold.');
export const signedBodyTooLarge = deny(
  'body-too-large',
  'The body of a signed request is larger than this service accepts.',
);
export const blocked = deny('too-many-auth-failures', 'Too many invalid credentials came from this address.');
export const replayed = deny('replayed-request', 'This signature was already used.');
export const rateLimited = deny('rate-limit-exceeded', 'The rate limit of this token or its tenant is used up.');
export const quotaUsedUp = deny('quota-exceeded', 'The quota of this token is used up.');
export const storeAway = deny('store-unavailable', 'The token store cannot be asked at the moment.', {
  retryAfterS: 1,
});
export const overloaded = deny('overloaded', 'Too many requests wait to be admitted.', { retryAfterS: 1 });
export const shed = deny('overloaded', 'More is under way than can be answered in time.', { retryAfterS: 1 });
