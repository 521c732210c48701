/**
 * HTTP Message Signatures (RFC 9421) with `hmac-sha256`: the second form of a signed request (docs/hmac.md).
 *
 * Steps, each pure: {@link parseMessageSignature} reads the two fields, {@link coverageGap} says what a signature leaves
 * open that Tollkeeper wants closed, {@link messageSignatureMatches} compares. The RFC lets a signer choose what is
 * covered; here a signature that covers less than method, target, time, key and body is refused (RFC 9421, 7.2).
 *
 * `@path` with `@query` cannot tell `/a` from `/a?` (RFC 9421, 2.2.7); `@target-uri` can. Both requests have the same
 * signature then, and so one claim. A signature base begins with a quote and the other form's canonical string with a
 * method: no signature of one form is one of the other.
 */
import { createHmac, timingSafeEqual, type KeyObject } from 'node:crypto';
import { type Dictionary, type InnerList, isInnerList, parseDictionary, serializeInnerList } from 'structured-headers';
import { isTokenId } from '../token/format.js';
import { isNonce } from './hmac.js';

/** The request as it arrived, in the terms of RFC 9421, section 2. */
export interface SignedMessage {
  readonly method: string;
  /** `http` or `https`, as the client used it. */
  readonly scheme: string;
  /** The Host field. */
  readonly host: string;
  /** Path and query as sent. */
  readonly target: string;
  /** A field's value by its lower-case name; several lines joined by a comma and a space; undefined when absent. */
  readonly field: (name: string) => string | undefined;
}

export interface MessageSignature {
  readonly label: string;
  /** Names of what is covered, in the order of the signature base. */
  readonly components: readonly string[];
  /** The value of `@signature-params`. */
  readonly parameters: string;
  /** Unix seconds; -1 when absent. */
  readonly createdS: number;
  /** Unix seconds; -1 when absent. */
  readonly expiresS: number;
  /** '' when absent. */
  readonly keyId: string;
  /** '' when absent. */
  readonly nonce: string;
  /** 32 bytes. */
  readonly signature: Buffer;
}

/** Why something was refused: one sentence that quotes nothing of the request. */
export interface Refused {
  readonly refused: string;
}

const derivedComponents = new Set([
  '@method',
  '@target-uri',
  '@authority',
  '@scheme',
  '@request-target',
  '@path',
  '@query',
]);
const secondsMax = 999_999_999_999;

/**
 * Reads `Signature-Input` and `Signature` (the values of all their lines, joined by commas). Never throws.
 * One signature only: which of several counts must not be a guess.
 */
export function parseMessageSignature(signatureInput: string, signature: string): MessageSignature | Refused {
  const inputs = dictionaryOf(signatureInput);
  const signatures = dictionaryOf(signature);
  if (inputs === undefined) return { refused: 'Signature-Input is not a dictionary of structured fields.' };
  if (signatures === undefined) return { refused: 'Signature is not a dictionary of structured fields.' };
  const [label, input] = [...inputs][0] ?? [];
  if (label === undefined || input === undefined || inputs.size !== 1 || signatures.size !== 1) {
    return { refused: 'Signature-Input and Signature must hold exactly one signature.' };
  }
  const bytes = byteSequence(signatures.get(label)?.[0]);
  if (bytes?.length !== 32) {
    return { refused: 'Signature must hold 32 bytes under the label that Signature-Input names.' };
  }
  if (!isInnerList(input)) return { refused: 'Signature-Input must hold a list of components.' };
  const components = componentsOf(input);
  if (!Array.isArray(components)) return components;
  const read = readParameters(label, components, input, bytes);
  if ('refused' in read) return read;
  if (!isSpeltAs(signatureInput, `${label}=${read.parameters}`) || signature.includes(',')) {
    return { refused: 'A label or parameter stands twice, or a number has leading zeros or a fraction.' };
  }
  return read;
}

/**
 * Whether a field says no more than what was read from it. A parser of structured fields drops all but the last of
 * several members or parameters of one name, and reads `1`, `01` and `1.0` as one number (RFC 9651, 4.2): what was
 * dropped is nothing that anybody signed. Spaces are free.
 */
function isSpeltAs(field: string, read: string): boolean {
  return field.replaceAll(' ', '') === read.replaceAll(' ', '');
}

function componentsOf([items]: InnerList): string[] | Refused {
  const components: string[] = [];
  for (const [name, parameters] of items) {
    if (typeof name !== 'string' || !/^@?[a-z0-9!#$%&'*+.^_`|~-]+$/.test(name)) {
      return { refused: 'A component must be a string with a name in lower case.' };
    }
    if (name.startsWith('@') && !derivedComponents.has(name)) {
      return { refused: 'A derived component is not one of those of a request that are supported.' };
    }
    if (parameters.size > 0) return { refused: 'Components with parameters are not supported.' };
    if (name === 'signature' || name === 'signature-input') return { refused: 'A signature cannot cover itself.' };
    if (components.includes(name)) return { refused: 'A component is covered twice.' };
    components.push(name);
  }
  return components;
}

function readParameters(
  label: string,
  components: readonly string[],
  input: InnerList,
  signature: Buffer,
): MessageSignature | Refused {
  let createdS = -1;
  let expiresS = -1;
  let keyId = '';
  let nonce = '';
  for (const [name, value] of input[1]) {
    switch (name) {
      case 'created':
      case 'expires':
        if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > secondsMax) {
          return { refused: 'created and expires must be whole Unix seconds.' };
        }
        if (name === 'created') createdS = value;
        else expiresS = value;
        break;
      case 'keyid':
        if (typeof value !== 'string') return { refused: 'keyid must be a string.' };
        keyId = value;
        break;
      case 'nonce':
        if (typeof value !== 'string' || !isNonce(value)) {
          return { refused: 'nonce must be a string of 1 to 64 visible ASCII characters.' };
        }
        nonce = value;
        break;
      case 'alg':
        if (value !== 'hmac-sha256') return { refused: 'alg must be "hmac-sha256".' };
        break;
      case 'tag':
        if (typeof value !== 'string') return { refused: 'tag must be a string.' };
        break;
      default:
        return { refused: 'A parameter of the signature is not known.' };
    }
  }
  return { label, components, parameters: serializeInnerList(input), createdS, expiresS, keyId, nonce, signature };
}

/**
 * What a signature leaves open that must be covered, or undefined when it covers enough: `@method`; `@target-uri`, or
 * `@path` and `@query`; `content-digest` when there is a body; the parameters `created` and `keyid` (a token's id).
 * A nonce is a parameter, and all parameters are signed.
 */
export function coverageGap(
  { components, createdS, expiresS, keyId }: MessageSignature,
  hasBody: boolean,
): Refused | undefined {
  const covers = (name: string): boolean => components.includes(name);
  if (!covers('@method')) return { refused: 'The signature must cover @method.' };
  if (!covers('@target-uri') && !(covers('@path') && covers('@query'))) {
    return { refused: 'The signature must cover @target-uri, or @path and @query.' };
  }
  if (hasBody && !covers('content-digest')) {
    return { refused: 'The signature of a request with a body must cover content-digest.' };
  }
  if (createdS < 0) return { refused: 'The signature must have the parameter created.' };
  if (expiresS >= 0 && expiresS <= createdS) return { refused: 'The signature expires before it was created.' };
  if (!isTokenId(keyId)) return { refused: 'The signature must have the parameter keyid, the id of a token.' };
  return undefined;
}

/** The text that is signed (RFC 9421, 2.5); undefined when a covered field is absent or cannot be part of it. */
export function signatureBase(signature: MessageSignature, message: SignedMessage): string | undefined {
  let base = '';
  for (const name of signature.components) {
    const value = name.startsWith('@') ? derivedValue(name, message) : message.field(name);
    // A line feed in a value could pass for a component of its own (RFC 9421, 7.5.5).
    if (value === undefined || !/^[\t\x20-\x7e]*$/.test(value)) return undefined;
    base += `"${name}": ${value.trim()}\n`;
  }
  return `${base}"@signature-params": ${signature.parameters}`;
}

/** Whether the signature is that of this message under the secret; in constant time, and never throws. */
export function messageSignatureMatches(
  secret: KeyObject | Buffer | string,
  signature: MessageSignature,
  message: SignedMessage,
): boolean {
  const base = signatureBase(signature, message);
  if (base === undefined) return false;
  return timingSafeEqual(createHmac('sha256', secret).update(base).digest(), signature.signature);
}

/**
 * The SHA-256 of the body that a `Content-Digest` (RFC 9530) names, in lower-case hex; '' when it names none. Other
 * algorithms may stand beside it and are not looked at; alone they are not enough.
 */
export function declaredSha256(contentDigest: string): string {
  const declared = byteSequence(dictionaryOf(contentDigest)?.get('sha-256')?.[0]);
  return declared?.length === 32 ? declared.toString('hex') : '';
}

function derivedValue(name: string, { method, scheme, host, target }: SignedMessage): string | undefined {
  const mark = target.indexOf('?');
  switch (name) {
    case '@method':
      return method;
    case '@scheme':
      return scheme.toLowerCase();
    case '@authority':
      return authorityOf(scheme, host);
    case '@target-uri':
      return `${scheme.toLowerCase()}://${authorityOf(scheme, host)}${target}`;
    case '@request-target':
      return target;
    case '@path':
      return mark < 0 ? target : target.slice(0, mark);
    case '@query':
      return mark < 0 ? '?' : target.slice(mark);
    default:
      return undefined;
  }
}

/** Lower case and without the scheme's own port (RFC 9421, 2.2.3). */
function authorityOf(scheme: string, host: string): string {
  const defaultPort = scheme.toLowerCase() === 'https' ? ':443' : ':80';
  const lower = host.toLowerCase();
  return lower.endsWith(defaultPort) ? lower.slice(0, -defaultPort.length) : lower;
}

function dictionaryOf(text: string): Dictionary | undefined {
  try {
    return parseDictionary(text);
  } catch {
    return undefined;
  }
}

function byteSequence(value: unknown): Buffer | undefined {
  return value instanceof ArrayBuffer ? Buffer.from(value) : undefined;
}
