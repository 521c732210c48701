/**
 * Tokens where clients write what is logged: in a path, a User-Agent, a request id. Only tokens of our own form can be
 * known; where they stand percent-encoded they are not.
 *
 * Hot path: one search a text, as long as nothing is found.
 */
export class TokenRedaction {
  readonly #beginning: string;
  readonly #token: RegExp;

  /** `prefix` of tokens, as configured: letters, digits and `_`. */
  constructor(prefix: string) {
    this.#beginning = `${prefix}_`;
    this.#token = new RegExp(`(${prefix}_[0-9A-Za-z]{12}_)[0-9A-Za-z]+`, 'g');
  }

  /** Whether a token may be in `text`. */
  suspects(text: string): boolean {
    return text.includes(this.#beginning);
  }

  /** The text with `[redacted]` for the secret of each token; its id, which is none, stays. */
  redact(text: string): string {
    return this.suspects(text) ? text.replaceAll(this.#token, '$1[redacted]') : text;
  }
}
