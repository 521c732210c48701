/** What the admin API can answer besides its results (RFC 9457), as core/problems.ts for the data plane. */
import { catalogue } from './problems.js';

export const adminProblems = catalogue({
  'unreadable-request': {
    status: 400,
    title: 'The request cannot be read',
    fault: 'client',
    remedy: 'Send one JSON document as the body, with a Content-Length; the detail names the fault.',
  },
  'admin-credentials-missing': {
    status: 401,
    title: 'No credential of the admin API was sent',
    fault: 'client',
    challenge: '',
    remedy: 'Send `Authorization: Bearer <admin key>`, or log in. Tokens of the data plane do not open the admin API.',
  },
  'admin-credentials-invalid': {
    status: 401,
    title: 'The admin key or session is not valid',
    fault: 'client',
    challenge: 'invalid_token',
    remedy: 'Check the key, or log in again: keys and sessions expire and can be ended.',
  },
  'login-failed': {
    status: 401,
    title: 'Name or password is wrong',
    fault: 'client',
    challenge: '',
    remedy: 'Check both; an operator can set a new password.',
  },
  'role-required': {
    status: 403,
    title: 'The role does not allow this',
    fault: 'client',
    remedy: 'Ask an operator.',
  },
  'password-required': {
    status: 403,
    title: 'The password must be confirmed',
    fault: 'client',
    remedy: 'Send it in `X-Confirm-Password`, or log in anew: for five minutes after a login it is not asked for.',
  },
  'cross-site-request': {
    status: 403,
    title: 'The request came from another site',
    fault: 'client',
    remedy: 'A session makes changes only from its own origin and with the header `X-Tollkeeper-Request: 1`.',
  },
  'not-found': {
    status: 404,
    title: 'There is no such thing',
    fault: 'client',
    remedy: 'Check the name or id; what belongs to another tenant is not there for you.',
  },
  conflict: {
    status: 409,
    title: 'What is there stands against it',
    fault: 'client',
    remedy: 'The detail says what, and what to do first.',
  },
  'idempotency-conflict': {
    status: 409,
    title: 'A request with this Idempotency-Key was made before',
    fault: 'client',
    remedy: 'The detail says what became of it: wait for it, look at what it made, or use a new key.',
  },
  'idempotency-key-reused': {
    status: 422,
    title: 'The Idempotency-Key was used for another request',
    fault: 'client',
    remedy: 'Use a new key for every new request.',
  },
  'version-conflict': {
    status: 412,
    title: 'Somebody else changed it meanwhile',
    fault: 'client',
    remedy: 'Read it again, decide anew, and send the new `ETag` in `If-Match`.',
  },
  'content-too-large': {
    status: 413,
    title: 'The body is too large',
    fault: 'client',
    remedy: 'The admin API takes bodies of up to 64 KiB.',
  },
  'unsupported-content': {
    status: 415,
    title: 'The body is not JSON',
    fault: 'client',
    remedy: 'Send `Content-Type: application/json`.',
  },
  'invalid-fields': {
    status: 422,
    title: 'Some fields are not allowed as they are',
    fault: 'client',
    remedy: '`errors` names each of them and what is wrong with it.',
  },
  'too-many-requests': {
    status: 429,
    title: 'Too many requests',
    fault: 'client',
    remedy: 'Wait for the seconds in Retry-After.',
  },
  'internal-error': {
    status: 500,
    title: 'Tollkeeper failed to answer',
    fault: 'platform',
    remedy: 'Look for the request id in the log of Tollkeeper.',
  },
  'not-configured': {
    status: 501,
    title: 'This Tollkeeper is not set up for it',
    fault: 'platform',
    remedy: 'The detail names the setting that is missing.',
  },
  'admin-store-unavailable': {
    status: 503,
    title: 'Redis cannot be asked',
    fault: 'platform',
    remedy: 'Nothing was changed: check Redis and send the request again after Retry-After.',
  },
  'change-not-confirmed': {
    status: 503,
    title: 'The change is not confirmed',
    fault: 'platform',
    remedy: 'It may or may not hold: check Redis and its replicas, look at what is there, and repeat it.',
  },
});

export type AdminProblemSlug = keyof typeof adminProblems;
