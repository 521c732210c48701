/** What a run sends: requests as bytes, made before the load begins wherever that is possible. */
import { createHash, createHmac, createSecretKey, type KeyObject } from 'node:crypto';
import { canonicalString } from '../../src/credential/hmac.js';
import { patternBlock } from '../harness/pattern.js';
import { TokenRanks } from './token-ranks.js';
import { manyToken } from './many-tokens.js';

export interface LoadRequest {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** The body is 1 MiB of the pattern (pattern.ts) instead. */
  readonly bodyIsPattern?: boolean;
}

/** The secret of a token in mode hmac. */
export interface SigningToken {
  readonly id: string;
  readonly secret: string;
}

export type RequestPlan =
  /** Sent in turn by every connection, each beginning at another one. */
  | { readonly kind: 'fixed'; readonly requests: readonly LoadRequest[] }
  /** One request, signed anew with a nonce of its own each time, by the tokens in turn. */
  | {
      readonly kind: 'signed';
      readonly request: LoadRequest;
      /** What the signature covers: on the verify plane it is not the request itself. */
      readonly signs: { readonly method: string; readonly target: string };
      readonly tokens: readonly SigningToken[];
    }
  /** One request with one of the tokens of many-tokens.ts each time. */
  | { readonly kind: 'many-tokens'; readonly request: LoadRequest; readonly count: number; readonly skewed: boolean };

/** Where the next request comes from. */
export interface RequestSource {
  /** `connection`: number of the connection, from 0. Latin-1 text. */
  next(connection: number): string;
}

/** Requests that are made before the load; what a run sends beyond them is made when it is sent. */
const preparedMax = 150_000;

/** The source of a plan; making one may take seconds. */
export function requestSource(plan: RequestPlan, host: string): RequestSource {
  switch (plan.kind) {
    case 'fixed':
      return new FixedRequests(plan.requests.map((request) => serialized(request, host, '')));
    case 'signed':
      return new OnceEach(signer(plan, host));
    case 'many-tokens':
      return new Recurring(withManyTokens(plan, host));
  }
}

/** Head and body of a request; `extra`: further header lines, each with its line end. */
function serialized(request: LoadRequest, host: string, extra: string): string {
  const { method, path, headers } = request;
  const body = request.bodyIsPattern === true ? patternBlock().toString('latin1') : (request.body ?? '');
  let head = `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\n`;
  for (const [name, value] of Object.entries(headers)) head += `${name}: ${value}\r\n`;
  if (method === 'POST') head += `Content-Length: ${Buffer.byteLength(body, 'latin1')}\r\n`;
  return `${head}${extra}\r\n${body}`;
}

class FixedRequests implements RequestSource {
  readonly #texts: readonly string[];
  readonly #sent: number[] = [];

  constructor(texts: readonly string[]) {
    this.#texts = texts;
  }

  next(connection: number): string {
    const sent = this.#sent[connection] ?? connection;
    this.#sent[connection] = sent + 1;
    return this.#texts[sent % this.#texts.length] as string;
  }
}

/** Every request once: signed ones must not come again. */
class OnceEach implements RequestSource {
  readonly #make: () => string;
  readonly #prepared: string[];
  #at = 0;

  constructor(make: () => string) {
    this.#make = make;
    this.#prepared = Array.from({ length: preparedMax }, () => flat(make()));
  }

  next(): string {
    const text = this.#prepared[this.#at];
    if (text === undefined) return this.#make();
    this.#at++;
    return text;
  }
}

/** A long ring of requests. */
class Recurring implements RequestSource {
  readonly #prepared: readonly string[];
  #at = 0;

  constructor(make: () => string) {
    this.#prepared = Array.from({ length: preparedMax }, () => flat(make()));
  }

  next(): string {
    if (this.#at === this.#prepared.length) this.#at = 0;
    return this.#prepared[this.#at++] as string;
  }
}

/** Joined pieces would be joined when they are sent. */
function flat(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1');
}

function signer(plan: Extract<RequestPlan, { kind: 'signed' }>, host: string): () => string {
  const tokens = plan.tokens.map(({ id, secret }): [string, KeyObject] => [id, createSecretKey(secret, 'utf8')]);
  const digest = createHash('sha256')
    .update(plan.request.body ?? '', 'latin1')
    .digest('hex');
  const { method, target } = plan.signs;
  let serial = 0;
  return () => {
    const [id, key] = tokens[serial % tokens.length] as [string, KeyObject];
    const [timestamp, nonce] = [String(Math.floor(Date.now() / 1000)), `${process.pid}-${serial++}`];
    const signature = createHmac('sha256', key)
      .update(canonicalString(method, target, timestamp, nonce, digest))
      .digest('hex');
    const lines = [`Token: ${id}`, `Timestamp: ${timestamp}`, `Nonce: ${nonce}`, `Signature: ${signature}`];
    return serialized(plan.request, host, lines.map((line) => `X-Tollkeeper-${line}\r\n`).join(''));
  };
}

function withManyTokens(plan: Extract<RequestPlan, { kind: 'many-tokens' }>, host: string): () => string {
  const ranks = new TokenRanks(plan.count, plan.skewed);
  return () => {
    const { plaintext } = manyToken(ranks.next());
    return serialized(plan.request, host, `Authorization: Bearer ${plaintext}\r\n`);
  };
}
