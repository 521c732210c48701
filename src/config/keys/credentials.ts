/** How callers show who they are, and the secrets of the installation. */
import { parseMasterKeys } from '../master-key.js';
import { integer, keyWithDefault, keyWithout, onOff, text } from './key.js';

export const credentials = {
  tokenPrefix: keyWithDefault(
    'tk_live',
    text(
      {
        group: 'Credentials',
        allowed: 'up to 32 lower-case letters and digits, words joined by _, such as sk_live',
        meaning: 'How tokens begin.',
      },
      (value) => value.length <= 32 && /^[a-z][a-z0-9]*(_[a-z0-9]+)*$/.test(value),
    ),
  ),
  apiKeyHeader: onOff('Credentials', false, 'Accept a token in `X-API-Key` too.'),
  foreignTokens: onOff(
    'Credentials',
    false,
    'Accept tokens of another form that were imported by their SHA-256; each unknown one then costs Redis a look-up.',
  ),
  hmacHeaderPrefix: keyWithDefault(
    'X-Tollkeeper-',
    text(
      {
        group: 'Credentials',
        allowed: 'the beginning of a header name, ending in a dash and of your own, such as X-Acme-',
        meaning: 'Before `Token`, `Timestamp`, `Signature` and `Nonce` in the headers of a signed request.',
      },
      isOwnHeaderPrefix,
    ),
  ),
  messageSignatures: onOff(
    'Credentials',
    true,
    'Take `Signature-Input` and `Signature` (RFC 9421) for a credential; off, both go to the upstream, whose business they are.',
  ),
  hmacMaxBody: integer(
    'Credentials',
    1_048_576,
    [0, 67_108_864],
    'Largest body of a signed request in bytes, else 413: it is held in memory until its digest is known.',
  ),
  masterKey: keyWithout(
    text(
      {
        group: 'Credentials',
        allowed: '32 bytes in base64 or hex (openssl rand -base64 32), or several of them as id:key,id:key',
        meaning:
          'Encrypts HMAC secrets at rest; HMAC tokens need it. The first key encrypts, all decrypt, so put a new one first.',
        example: '/run/secrets/tollkeeper-master-key',
        secret: true,
      },
      (value) => parseMasterKeys(value) !== undefined,
    ),
  ),
  adminKey: keyWithout(
    text(
      {
        group: 'Credentials',
        allowed: 'at least 16 visible ASCII characters (openssl rand -hex 32)',
        meaning: 'Opens the admin API to an operator: `Authorization: Bearer <key>`.',
        example: '/run/secrets/tollkeeper-admin-key',
        secret: true,
      },
      (value) => /^[\x21-\x7e]{16,512}$/.test(value),
    ),
  ),
};

function isOwnHeaderPrefix(value: string): boolean {
  if (!/^[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*-$/.test(value) || value.length > 40) return false;
  // These would take foreign headers for credentials, or remove them on the way to the upstream.
  return !/^(x-|x-forwarded-|x-ratelimit-|x-request-|content-|accept-|sec-|proxy-|if-)$/i.test(value);
}
