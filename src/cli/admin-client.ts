/** One request to the admin API of a running Tollkeeper, and its refusals as the sentences that they are. */
import { randomUUID } from 'node:crypto';
import { OperatorError } from '../core/failure.js';
import type { CliContext } from './context.js';
import { printable } from './output.js';
import { askPassword } from './password.js';
import type { AdminServer } from './server-option.js';

const timeoutMs = 60_000;

export interface AdminRequest {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** Below `/v1`, each part escaped. */
  readonly path: readonly string[];
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly body?: unknown;
  /** For `If-Match`. */
  readonly ifVersion?: number | undefined;
}

/** The API refused. */
export class AdminApiError extends OperatorError {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message, status === 400 || status === 422 ? 2 : 1);
    this.status = status;
  }
}

export class AdminClient {
  readonly #server: AdminServer;
  readonly #context: CliContext;
  #password: string | undefined;

  constructor(server: AdminServer, context: CliContext) {
    this.#server = server;
    this.#context = context;
  }

  /**
   * Sends it and answers the JSON of the answer, undefined when there is none. Where the API wants the password once
   * more, the person is asked for it.
   * @throws AdminApiError with the API's own sentence; OperatorError when the server cannot be asked.
   */
  async send(request: AdminRequest): Promise<unknown> {
    const answer = await this.#fetch(request);
    const problem = answer.ok ? undefined : await problemOf(answer);
    if (problem?.type?.endsWith('/password-required') === true && this.#password === undefined) {
      this.#password = await askPassword(this.#context, 'Your password, once more');
      return this.send(request);
    }
    if (problem !== undefined) throw this.#refused(answer.status, problem);
    return answer.status === 204 ? undefined : answer.json();
  }

  /**
   * The lines of an answer that is a text, however long it takes to come; `signal` ends it.
   * @throws as {@link send}; OperatorError when it breaks off.
   */
  async *lines(request: AdminRequest, signal?: AbortSignal): AsyncGenerator<string, undefined> {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(new DOMException('no answer', 'TimeoutError')), timeoutMs);
    const ends = signal === undefined ? late.signal : AbortSignal.any([late.signal, signal]);
    const answer = await this.#fetch(request, ends).finally(() => clearTimeout(timer));
    if (!answer.ok) throw this.#refused(answer.status, await problemOf(answer));
    const decoder = new TextDecoder();
    let rest = '';
    try {
      for await (const part of answer.body ?? []) {
        const lines = (rest + decoder.decode(part, { stream: true })).split('\n');
        rest = lines.pop() ?? '';
        yield* lines;
      }
    } catch (error) {
      if (signal?.aborted === true) return;
      const reason = reasonOf(error);
      throw new OperatorError(
        `The answer of ${this.#server.origin} broke off (${reason}): what was printed is not all.`,
      );
    }
    if (rest !== '') yield rest;
  }

  async #fetch(
    { method, path, query = {}, body, ifVersion }: AdminRequest,
    signal: AbortSignal = AbortSignal.timeout(timeoutMs),
  ): Promise<Response> {
    const { origin, adminKey } = this.#server;
    // A URL would take these for a step up, and lead to another resource.
    const step = path.findIndex((part) => ['', '.', '..'].includes(part));
    if (step !== -1) throw new AdminApiError(404, `There is no such ${path[step - 1]?.replace(/s$/, '')}.`);
    const url = new URL(`${origin}/v1/${path.map(encodeURIComponent).join('/')}`);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const headers: Record<string, string> = { authorization: `Bearer ${adminKey}`, accept: 'application/json' };
    if (body !== undefined) headers['content-type'] = 'application/json';
    if (method === 'POST') headers['idempotency-key'] = randomUUID();
    if (ifVersion !== undefined) headers['if-match'] = `"${ifVersion}"`;
    // A header is bytes; what is meant is UTF-8.
    if (this.#password !== undefined) {
      headers['x-confirm-password'] = Buffer.from(this.#password, 'utf8').toString('latin1');
    }
    try {
      return await fetch(url, {
        method,
        headers,
        // The key is for this server alone.
        redirect: 'manual',
        signal,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch (error) {
      const doubt = method === 'GET' ? '' : '; the change may have been made all the same';
      throw new OperatorError(
        `The admin API at ${origin} gave no answer (${reasonOf(error)}): check --server and that Tollkeeper runs there${doubt}.`,
      );
    }
  }

  #refused(status: number, { detail, type }: Problem): OperatorError {
    const { origin } = this.#server;
    if (status === 401)
      return new AdminApiError(status, `The admin key is not one of ${origin}: look at where it comes from.`);
    if (detail !== undefined && type !== undefined) return new AdminApiError(status, printable(detail));
    return new AdminApiError(
      status,
      `${origin} answered ${status} and not as an admin API of Tollkeeper: check --server (it is the admin plane that is asked).`,
    );
  }
}

interface Problem {
  readonly type?: string | undefined;
  readonly detail?: string | undefined;
}

async function problemOf(answer: Response): Promise<Problem> {
  const problem: unknown = await answer.json().catch(() => undefined);
  const { type, detail } = (problem ?? {}) as Record<string, unknown>;
  return {
    type: typeof type === 'string' ? type : undefined,
    detail: typeof detail === 'string' ? detail : undefined,
  };
}

function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? (error.cause as NodeJS.ErrnoException | undefined) : undefined;
  if (cause !== undefined) return printable(cause.code ?? cause.message);
  return error instanceof Error && error.name === 'TimeoutError'
    ? `none within ${timeoutMs / 1000} s`
    : 'unknown reason';
}
