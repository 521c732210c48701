/**
 * Renders denials as RFC 9457 `application/problem+json`. A denial is rendered once and kept; only the request id
 * differs between two answers, so an answer costs one concatenation.
 */
import { STATUS_CODES } from 'node:http';
import type { Denial } from '../core/problems.js';

const problemTypeBase = 'https://tollkeeper.dev/problems/';

export interface RenderedDenial {
  /** `401 Unauthorized` */
  readonly statusLine: string;
  /** Body up to the request id, and after it. */
  readonly before: string;
  readonly after: string;
  /** Of both, in bytes. */
  readonly bytes: number;
  /** `WWW-Authenticate` and `Allow` where the denial has them, each begun by CR LF. */
  readonly fields: string;
}

const rendered = new WeakMap<Denial, RenderedDenial>();

/** The parts of the answer for a denial; see {@link RenderedDenial}. */
export function renderDenial(denial: Denial): RenderedDenial {
  const known = rendered.get(denial);
  if (known !== undefined) return known;
  const { problem, detail } = denial;
  const body = JSON.stringify({
    type: problemTypeBase + problem.slug,
    title: problem.title,
    status: problem.status,
    detail,
  });
  const before = `${body.slice(0, -1)},"instance":"`;
  const after = '"}';
  const fresh: RenderedDenial = {
    statusLine: statusLine(problem.status),
    before,
    after,
    bytes: Buffer.byteLength(before + after),
    fields: challengeOf(denial) + (denial.allow === '' ? '' : `\r\nAllow: ${denial.allow}`),
  };
  rendered.set(denial, fresh);
  return fresh;
}

/** RFC 6750 section 3: scheme and realm, then the error when a credential was presented. */
function challengeOf(denial: Denial): string {
  const { challenge } = denial.problem;
  if (challenge === undefined) return '';
  const field = '\r\nWWW-Authenticate: Bearer realm="tollkeeper"';
  if (challenge === '') return field;
  const scope = denial.scope === '' ? '' : `, scope="${denial.scope}"`;
  return `${field}, error="${challenge}", error_description="${denial.problem.title}"${scope}`;
}

const statusLines = new Map<number, string>();

/** `200 OK`: what follows the version in a status line. Without a registered reason the space stays (RFC 9112 section 4). */
export function statusLine(status: number): string {
  let line = statusLines.get(status);
  if (line === undefined) {
    line = `${status} ${STATUS_CODES[status] ?? ''}`;
    statusLines.set(status, line);
  }
  return line;
}
