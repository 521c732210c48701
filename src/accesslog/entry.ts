/**
 * What one request leaves behind, and its form in the stream: plain text fields that any Redis client can read.
 * Values come from strangers, so each is cut to its bound and freed of everything a terminal or a browser would obey.
 */

/** What is said of a request both when it is written and when it is read back. */
export interface EntryFields {
  readonly requestId: string;
  /** Slug of the tenant; '' when the request is of no known tenant. */
  readonly tenant: string;
  /** Id of the token, '' without one. */
  readonly tokenId: string;
  readonly method: string;
  /** Without the query, unless the query is to be logged. */
  readonly path: string;
  /** Pattern of the matched route, '' without one. */
  readonly route: string;
  /** Status answered; 0 when the client left before there was one. */
  readonly status: number;
  /** `ok` for what was forwarded, else the slug of the problem, or `client-closed`. */
  readonly outcome: string;
  readonly durationMs: number;
  /** Until the head of the upstream's answer; 0 when it was not asked. */
  readonly upstreamMs: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly ip: string;
  readonly userAgent: string;
}

/** One request. The writer keeps the reference until it is flushed: never change or reuse an entry after `append`. */
export interface LogEntry extends EntryFields {
  /** When the request arrived, Unix time in ms; its UTC day decides the stream. */
  readonly timeMs: number;
}

/** Outcome of a record that stands for entries that had to be dropped; its field `dropped` says how many. */
export const gapOutcome = 'log-gap';

/**
 * True when a request counts as a call of its token. An answer of 401 by Tollkeeper itself does not: whoever sent it
 * has not shown that the token is theirs, and must not be able to move its "last used".
 */
export function isTokenUse(entry: LogEntry): boolean {
  return entry.tokenId !== '' && entry.tenant !== '' && (entry.status !== 401 || entry.outcome === 'ok');
}

const plain = /^[\x20-\x7e]*$/;
// Control, format (bidi overrides among them), unassigned, private use, lone surrogates; line and paragraph separator.
const invisible = /[\p{C}\p{Zl}\p{Zp}]/gu;

/** `text` cut to `max` UTF-16 units (never inside a character), with U+FFFD for everything that is not visible. */
export function visibleText(text: string, max: number): string {
  const cut = text.length > max ? text.slice(0, max) : text;
  if (plain.test(cut)) return cut;
  // A surrogate pair cut in two leaves a lone half, which is dropped rather than shown as a replacement.
  const whole = cut.length < text.length && isHighSurrogate(cut.charCodeAt(max - 1)) ? cut.slice(0, -1) : cut;
  return whole.replace(invisible, '\uFFFD');
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff;
}

let cachedSecond = Number.NaN;
let cachedPrefix = '';
let cachedMs = Number.NaN;
let cachedText = '';

/** RFC 3339 in UTC with milliseconds. Entries come in order: the texts of the second and the millisecond are kept. */
export function rfc3339(timeMs: number): string {
  const whole = Math.floor(timeMs);
  if (whole === cachedMs) return cachedText;
  const second = Math.floor(whole / 1000);
  if (second !== cachedSecond) {
    cachedPrefix = new Date(second * 1000).toISOString().slice(0, 20);
    cachedSecond = second;
  }
  const ms = whole - second * 1000;
  cachedMs = whole;
  cachedText = `${cachedPrefix}${ms < 10 ? '00' : ms < 100 ? '0' : ''}${ms}Z`;
  return cachedText;
}

/** A duration in ms with at most three decimals, never negative. */
export function milliseconds(duration: number): string {
  if (!(duration > 0 && duration < Number.MAX_SAFE_INTEGER / 1000)) return '0';
  // Two whole numbers are turned into text several times faster than one with a fraction.
  const us = Math.round(duration * 1000);
  const whole = Math.floor(us / 1000);
  const fraction = us - whole * 1000;
  if (fraction === 0) return `${whole}`;
  return `${whole}${fraction < 10 ? '.00' : fraction < 100 ? '.0' : '.'}${fraction}`;
}

export const dayMs = 86_400_000;

/** Number of the UTC day since 1970. */
export function dayOf(timeMs: number): number {
  return Math.floor(timeMs / dayMs);
}

let namedDay = Number.NaN;
let nameOfDay = '';

/** `yyyy-mm-dd` of a {@link dayOf} number. The last one is kept: a batch asks for the same day again and again. */
export function dayName(day: number): string {
  if (day !== namedDay) {
    nameOfDay = new Date(day * dayMs).toISOString().slice(0, 10);
    namedDay = day;
  }
  return nameOfDay;
}

/** Unix time in seconds at which the stream of a day expires: `retentionDays` after the day has ended. */
export function dayExpiresAt(day: number, retentionDays: number): number {
  return ((day + 1 + retentionDays) * dayMs) / 1000;
}
