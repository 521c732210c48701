/**
 * CPU of what one request costs before and after Redis, function by function: `npx tsx bench/micro/request.ts [rounds]`.
 * The best of the rounds each, because other work on the machine only ever adds. Inputs are new texts each time, as the
 * HTTP binding makes them: a text that was hashed or flattened before would be too cheap.
 */
import { createSecretKey } from 'node:crypto';
import { blankVerdict } from '../../src/admission/ticket.js';
import { prepareLimitHeaders, rateFields } from '../../src/admission/rate-headers.js';
import { digestMatches, sha256 } from '../../src/credential/bearer.js';
import { canonicalString, emptyBodySha256, signatureMatches } from '../../src/credential/hmac.js';
import { createHeaderClassifier } from '../../src/http/drop-list.js';
import { newRequestId } from '../../src/http/request-id.js';
import { RequestHead, RequestHeadReader } from '../../src/http/request-head.js';
import { ResponseHeadReader } from '../../src/http/response-head.js';
import { normalisePath } from '../../src/policy/path.js';
import { Policy } from '../../src/policy/routes.js';
import { parseToken } from '../../src/token/format.js';
import { manyToken } from '../load/many-tokens.js';

const rounds = Number(process.argv[2] ?? 7);
const callsPerRound = 100_000;
const inputs = 1024;

const tokens = Array.from({ length: inputs }, (_, number) => manyToken(number).plaintext);
const bytes = tokens.map((token) => Buffer.from(`Bearer ${token}`));
const digest = sha256(tokens[0] as string);
const classify = createHeaderClassifier({ hmacPrefix: 'X-Tollkeeper-', messageSignatures: true });
const heads = new RequestHeadReader(classify, false);
const fields: readonly (readonly [string, string])[] = [
  ['host', 'api.example.com'],
  ['user-agent', 'curl/8.5.0'],
  ['accept', '*/*'],
  ['accept-encoding', 'gzip, br'],
  ['x-custom-header', 'a value'],
];
const key = createSecretKey('tk_live_secret', 'utf8');
const pattern = '/api/v1/products/{id}';
const policy = new Policy(
  false,
  ['products:read'],
  [{ methods: ['GET'], pattern, scopes: ['products:read'], cost: 1, public: false }],
);
const [limit] = prepareLimitHeaders([{ limit: 60, window: 60, algorithm: 'sliding-window' }], 'token');
const verdict = Object.assign(blankVerdict(), { remaining: 12_345, resetMs: 59_000 });
const answer = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: "abc"\r\nContent-Length: 200\r\n\r\n';
const answers = new ResponseHeadReader();

/** What it does with the n-th input; the result is used, so that nothing is optimised away. */
const subjects: Readonly<Record<string, (n: number) => unknown>> = {
  'new text of an Authorization header': (n) => bytes[n % inputs]?.toString('latin1'),
  'the same, and parseToken': (n) => parseToken((bytes[n % inputs]?.toString('latin1') ?? '').slice(7), 'tk_live'),
  'SHA-256 of a token, compared': (n) => digestMatches(sha256(tokens[n % inputs] as string), digest),
  'signature verified': (n) =>
    signatureMatches(key, 'GET', '/api/v1/products/42', '1700000000', `nonce${n}`, emptyBodySha256, emptyBodySha256),
  'canonical string': (n) => canonicalString('GET', '/api/v1/products/42', '1700000000', `nonce${n}`, emptyBodySha256),
  'request head of five fields': () => {
    const head = new RequestHead();
    head.method = 'GET';
    heads.begin(head);
    for (const [name, value] of fields) heads.field(name, value);
    return heads.finish();
  },
  'path normalised and matched': (n) => policy.match('GET', normalisePath(`/api/v1/products/${n}`)),
  'request id': () => newRequestId(),
  'limit fields': (n) => {
    verdict.remaining = n;
    return limit === undefined ? '' : rateFields(limit, verdict);
  },
  'answer head of the upstream': () => {
    answers.begin(true);
    return answers.read(answer);
  },
};

let used = 0;
console.log('CPU us a call');
for (const [name, subject] of Object.entries(subjects)) {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round++) {
    const before = process.cpuUsage();
    for (let n = 0; n < callsPerRound; n++) if (subject(n) !== undefined) used++;
    const { user, system } = process.cpuUsage(before);
    best = Math.min(best, (user + system) / callsPerRound);
  }
  console.log(`${name.padEnd(40)} ${best.toFixed(3).padStart(8)}`);
}
if (used < 0) throw new Error('unreachable');
