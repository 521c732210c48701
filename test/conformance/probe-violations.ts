/**
 * What a probe must not bring about: one predicate for each value of `must_not`, judged from bytes on the wire, on
 * both sides of the sidecar, and from the access log.
 */
import { type RawResult, headerOf, headersOf } from '../support/raw-client.js';
import type { Probe, ProbeValues } from './probe-request.js';
import type { UpstreamRecord } from './recording-upstream.js';

/** Everything seen of one probe. */
export interface Observation {
  readonly probe: Probe;
  /** The bytes sent, Latin-1. */
  readonly sent: string;
  readonly values: ProbeValues;
  /** Source address of the connection; each probe has its own. */
  readonly address: string;
  readonly result: RawResult;
  /** Requests of this probe that reached the upstream. */
  readonly upstream: readonly UpstreamRecord[];
  /** Entries of the access log of this probe, by request id or address. */
  readonly logged: readonly Readonly<Record<string, string>>[];
  /** Whether the sidecar ran on after the probe. */
  readonly alive: boolean;
}

/** Whether the forbidden thing was seen; a text says what, '' is the good case. */
type Violation = (seen: Observation) => string;

const tenant = 'acme';
const scopes = 'products:read';

/** Own fields that the sidecar sets on every request with a token. */
const ownFields = words(
  'X-Tollkeeper-Token-Id X-Tollkeeper-Tenant X-Tollkeeper-Scopes X-Request-Id X-Forwarded-For X-Forwarded-Proto X-Forwarded-Host',
);

const hopByHop = words(
  'keep-alive proxy-authorization proxy-authenticate proxy-connection te trailer upgrade http2-settings',
);
/** What a client may name in `Connection` without effect: the sidecar sends its own. */
const keptDespiteConnection = ['host', 'content-length', ...ownFields.map((name) => name.toLowerCase())];

const urlOverrides = words(
  'x-original-url x-rewrite-url x-original-uri x-override-url x-envoy-original-path x-forwarded-prefix x-forwarded-uri x-forwarded-path',
);
const methodOverrides = words('x-http-method-override x-method-override x-http-method');
const addressClaims = words(
  'x-real-ip true-client-ip x-cluster-client-ip x-client-ip client-ip cf-connecting-ip forwarded',
);

export const violations: Readonly<Record<string, Violation>> = {
  'reaches-upstream': ({ upstream }) => (upstream.length > 0 ? `upstream got ${requestLine(upstream[0])}` : ''),

  'second-request-parsed'({ upstream, logged, result }) {
    const smuggled = upstream.find(({ head }) => /smuggled/.test(requestLineAndHost(head)));
    if (smuggled !== undefined) return `upstream got ${requestLine(smuggled)}`;
    if (upstream.length > 1) return `upstream got ${upstream.length} requests`;
    const entry = logged.find(({ path = '' }) => path.includes('/status') || path.includes('smuggled'));
    if (entry !== undefined) return `logged ${entry.path}`;
    const answers = finalAnswers(result);
    return answers.length > 1 ? `${answers.length} final answers` : '';
  },

  'privileged-path-reached': ({ upstream }) =>
    named(
      upstream.find((record) => isPrivileged(asABackendMayReadIt(targetOf(record)))),
      'upstream got',
    ),

  'process-exit': ({ alive }) => (alive ? '' : 'the sidecar ended'),

  'hop-by-hop-forwarded'({ upstream, sent }) {
    const nominated = headersOf(headOf(sent), 'Connection')
      .flatMap((value) => value.split(','))
      .map((name) => name.trim().toLowerCase())
      .filter((name) => !keptDespiteConnection.includes(name) && !['close', 'keep-alive', ''].includes(name));
    return firstForwarded(upstream, [...hopByHop, ...nominated]);
  },

  'client-address-spoofed'({ upstream, logged, address }) {
    for (const record of upstream) {
      const claims = headersOf(record.head, 'X-Forwarded-For');
      if (claims.length !== 1 || claims[0] !== address) return `X-Forwarded-For: ${claims.join(' | ')}`;
      for (const name of addressClaims) {
        const claim = headersOf(record.head, name).find((value) => !value.includes(address));
        if (claim !== undefined) return `${name}: ${claim}`;
      }
    }
    const entry = logged.find(({ ip }) => ip !== address);
    return entry === undefined ? '' : `logged as ${entry.ip}`;
  },

  'spoofed-identity-forwarded'({ upstream, values }) {
    const allowed: Readonly<Record<string, readonly string[]>> = {
      'x-tollkeeper-token-id': [values.tokenId, values.hmacId],
      'x-tollkeeper-tenant': [tenant],
      'x-tollkeeper-scopes': [scopes],
    };
    for (const { head } of upstream) {
      for (const name of fieldNames(head)) {
        // A backend may fold dash, underscore and dot into one.
        if (!name.replaceAll(/[-_.\s]/g, '').startsWith('xtollkeeper')) continue;
        const found = headersOf(head, name);
        if (found.length !== 1 || allowed[name]?.includes(found[0] as string) !== true) {
          return `${name}: ${found.join(' | ')}`;
        }
      }
    }
    return '';
  },

  'url-override-forwarded': ({ upstream }) => firstForwarded(upstream, urlOverrides),
  'method-override-forwarded': ({ upstream }) => firstForwarded(upstream, methodOverrides),

  'credential-forwarded'({ upstream, values }) {
    const secrets = [
      'authorization',
      'x-api-key',
      'x-tollkeeper-token',
      'x-tollkeeper-signature',
      'x-tollkeeper-nonce',
    ];
    const field = firstForwarded(upstream, secrets);
    if (field !== '') return field;
    const plaintext = [values.token, values.hmacSecret];
    const leaks = upstream.some(({ head, body }) =>
      plaintext.some((secret) => head.includes(secret) || body.includes(secret)),
    );
    return leaks ? 'a secret is in the request' : '';
  },

  'credential-echoed': ({ result, values }) =>
    result.raw.includes(values.token) || result.raw.includes(values.hmacSecret) ? 'a secret is in the answer' : '',

  'body-on-bodyless-response'({ result }) {
    const headEnd = result.raw.indexOf('\r\n\r\n');
    const extra = headEnd < 0 ? 0 : result.raw.length - headEnd - 4;
    return extra > 0 ? `${extra} bytes after the head` : '';
  },

  'protocol-upgraded'({ probe, result, upstream }) {
    if (result.responses.some(({ status }) => status === 101)) return '101 was answered';
    if (probe.raw.startsWith('CONNECT') && result.status === 200) return 'a tunnel was opened';
    return firstForwarded(upstream, ['upgrade', 'http2-settings']);
  },

  'header-injected'({ result, upstream, values }) {
    if (result.responses.some(({ head }) => headerOf(head, 'Set-Cookie') !== undefined))
      return 'Set-Cookie in the answer';
    for (const { head } of upstream) {
      if (headerOf(head, 'Set-Cookie') !== undefined) return 'Set-Cookie went upstream';
      if (headersOf(head, 'Host').join() !== values.host) return `upstream got Host ${headersOf(head, 'Host').join()}`;
    }
    return '';
  },

  'host-spoofed'({ upstream, values }) {
    for (const { head } of upstream) {
      const host = headersOf(head, 'X-Forwarded-Host');
      if (host.length !== 1 || host[0] !== values.host) return `X-Forwarded-Host: ${host.join(' | ')}`;
      const port = headersOf(head, 'X-Forwarded-Port').find((value) => !values.host.endsWith(`:${value}`));
      if (port !== undefined) return `X-Forwarded-Port: ${port}`;
    }
    return '';
  },

  'insane-request-id-echoed'({ result, upstream, sent }) {
    const claimed = headerOf(headOf(sent), 'X-Request-Id');
    const seen = [...result.responses, ...upstream].flatMap(({ head }) => headersOf(head, 'X-Request-Id'));
    const insane = seen.find((id) => id === claimed || !/^[A-Za-z0-9._~:+/=-]{1,128}$/.test(id));
    return insane === undefined ? '' : `X-Request-Id: ${insane}`;
  },

  'responses-out-of-order'({ result, sent }) {
    const targets = [...sent.matchAll(/^(?:GET|POST|HEAD) (\S+) HTTP/gm)].map((match) => match[1] as string);
    const wrong = finalAnswers(result).findIndex(
      ({ status, body }, index) => status === 200 && body.toString('latin1') !== `upstream got GET ${targets[index]}`,
    );
    return wrong < 0 ? '' : `answer ${wrong + 1} is not that of request ${wrong + 1}`;
  },

  'mangled-bytes-forwarded'({ upstream, sent }) {
    const value = headerOf(headOf(sent), 'X-Test') ?? '';
    // The binding trims bytes above 0x7F from both ends of a value before anybody sees it: not detectable.
    const trimmed = value.replaceAll(/^[\x80-\xff]+|[\x80-\xff]+$/g, '');
    const found = upstream.flatMap(({ head }) => headersOf(head, 'X-Test'));
    const mangled = found.find((text) => text !== value && text !== trimmed);
    return mangled === undefined ? '' : `X-Test: ${mangled}`;
  },

  'unnormalised-path-forwarded'({ upstream }) {
    const unreserved = /%(?:2d|2e|5f|7e|3[0-9]|[46][1-9a-f]|[57][0-9a])/i;
    return named(
      upstream.find((record) => unreserved.test(targetOf(record).replace(/\?.*/s, ''))),
      'upstream got',
    );
  },

  'own-header-removed'({ upstream }) {
    const missing = ownFields.find((name) => upstream.some(({ head }) => headersOf(head, name).length !== 1));
    return missing === undefined ? '' : `${missing} did not reach the upstream once`;
  },

  'host-missing-upstream': ({ upstream, values }) =>
    upstream.every(({ head }) => headersOf(head, 'Host').join() === values.host) ? '' : 'Host did not survive',

  'query-changed'({ upstream, sent }) {
    const changed = upstream.find((record) => targetOf(record) !== sent.split(' ')[1]);
    return named(changed, 'upstream got');
  },

  'header-lost'({ upstream, sent }) {
    const cookies = headersOf(headOf(sent), 'Cookie');
    const lost = upstream.some(({ head }) => {
      const found = headersOf(head, 'Cookie').flatMap((value) => value.split(/; */));
      return cookies.some((cookie) => !found.includes(cookie));
    });
    return lost ? 'a Cookie field did not reach the upstream' : '';
  },
};

/** Everything wrong with a probe's outcome, one line each; empty is a pass. */
export function judge(seen: Observation): string[] {
  const { probe, result } = seen;
  const wrong: string[] = [];
  if (result.status === 0 && !result.closed) wrong.push('neither answered nor closed within 15 s');
  if (!probe.expect.status.includes(result.status) && !refusedByBinding(seen)) {
    wrong.push(
      `status ${result.status}, expected ${probe.expect.status.join(' or ')}: ${result.body.toString('latin1')}`,
    );
  }
  if (!seen.alive && !probe.expect.must_not.includes('process-exit')) wrong.push('the sidecar ended');
  for (const name of probe.expect.must_not) {
    const violation = violations[name];
    if (violation === undefined) throw new Error(`no check for must_not "${name}"`);
    const found = violation(seen);
    if (found !== '') wrong.push(`${name}: ${found}`);
  }
  return wrong;
}

/**
 * The binding answers some of what it cannot parse itself, before any code of ours runs: a fixed page, 505 or 431, and
 * a close. Where a refusal or a close was expected, that is one.
 */
function refusedByBinding({ probe, result }: Observation): boolean {
  const refusalExpected = probe.expect.status.includes(400) || probe.expect.status.includes(0);
  const fixedPage = /^<h1>.*<i>uWebSockets\/20 Server<\/i>$/.test(result.body.toString('latin1'));
  return refusalExpected && result.closed && fixedPage && (result.status === 505 || result.status === 431);
}

/** What a backend that decodes once, folds slashes and drops path parameters makes of a target. */
function asABackendMayReadIt(target: string): string {
  const path = target.replace(/[?#].*/s, '');
  const decoded = path.replaceAll(/%([0-9a-f]{2})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  const folded = decoded.normalize('NFKC').replaceAll('\\', '/').toLowerCase();
  const segments: string[] = [];
  for (const segment of folded.split('/').map((part) => part.replace(/[;\0].*/s, ''))) {
    if (segment === '..') segments.pop();
    else if (segment !== '' && segment !== '.') segments.push(segment);
  }
  return `/${segments.join('/')}`;
}

/** Whether the probe's token has no scope for the path. */
function isPrivileged(path: string): boolean {
  return path.startsWith('/api/v1/admin') || path.includes('/admin/tokens') || /^\/api\/v1\/orders\/.*retry/.test(path);
}

function finalAnswers(result: RawResult): readonly { status: number; body: Buffer }[] {
  return result.responses.filter(({ status }) => status >= 200);
}

function firstForwarded(upstream: readonly UpstreamRecord[], names: readonly string[]): string {
  for (const { head } of upstream) {
    const name = names.find((candidate) => headerOf(head, candidate) !== undefined);
    if (name !== undefined) return `${name}: ${headerOf(head, name)} went upstream`;
  }
  return '';
}

function fieldNames(head: string): string[] {
  return head
    .split('\r\n')
    .slice(1)
    .map((line) => line.slice(0, Math.max(0, line.indexOf(':'))).toLowerCase());
}

function headOf(bytes: string): string {
  return bytes.split('\r\n\r\n', 1)[0] as string;
}

function requestLine(record: UpstreamRecord | undefined): string {
  return record === undefined ? '' : (record.head.split('\r\n', 1)[0] as string);
}

function requestLineAndHost(head: string): string {
  return `${head.split('\r\n', 1)[0]} ${headersOf(head, 'Host').join(' ')}`;
}

function targetOf(record: UpstreamRecord): string {
  return requestLine(record).split(' ')[1] ?? '';
}

function named(record: UpstreamRecord | undefined, prefix: string): string {
  return record === undefined ? '' : `${prefix} ${requestLine(record)}`;
}

function words(text: string): readonly string[] {
  return text.split(' ');
}
