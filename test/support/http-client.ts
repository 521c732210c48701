/** A plain HTTP client for tests: one request, its whole answer. */
import { request } from 'undici';

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  /** The body as JSON; throws when it is none. */
  json(): Record<string, unknown>;
}

export interface CallOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly token?: string;
  readonly body?: string | Buffer;
}

/** Sends one request and reads the answer to its end. */
export async function call(url: string, options: CallOptions = {}): Promise<Answer> {
  const { statusCode, headers, body } = await request(url, {
    method: (options.method ?? 'GET') as 'GET',
    headers: {
      ...options.headers,
      ...(options.token === undefined ? {} : { authorization: `Bearer ${options.token}` }),
    },
    body: options.body ?? null,
  });
  const text = await body.text();
  return { status: statusCode, headers, text, json: () => JSON.parse(text) as Record<string, unknown> };
}

/** The problem slug of a refusal, '' for any other answer. */
export function slugOf(answer: Answer): string {
  if (answer.text === '' || !String(answer.headers['content-type']).startsWith('application/problem+json')) return '';
  return String(answer.json().type).replace('https://tollkeeper.dev/problems/', '');
}
