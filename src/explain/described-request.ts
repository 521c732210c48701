/** A request that is described, not sent, read as the data plane's listener and pipeline read one that is. */
import { createHash } from 'node:crypto';
import type { Denial } from '../core/problems.js';
import type { SentRequest } from '../credential/verify.js';
import type { AuthorizationSubject } from '../dataplane/authorize.js';
import type { PipelineSettings } from '../dataplane/settings.js';
import type { HeaderClassifier } from '../http/drop-list.js';
import type { TrustedProxies } from '../http/forwarded.js';
import { RequestHead, RequestHeadReader } from '../http/request-head.js';
import type { Route } from '../policy/routes.js';

export interface RequestDescription {
  readonly method: string;
  /** Path and query as in the request line. */
  readonly target: string;
  readonly fields: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer;
  /** Address that the connection comes from. */
  readonly peer: string;
  /** Host when no field says one. */
  readonly host: string;
  /** What the client speaks with the listener; undefined: what the listener is configured for. */
  readonly scheme: 'http' | 'https' | undefined;
}

export interface DescribedRequest extends SentRequest, AuthorizationSubject {
  readonly method: string;
  readonly host: string;
  readonly secure: boolean;
  readonly head: RequestHead;
  readonly headFault: Denial | undefined;
  readonly rawPath: string;
  readonly query: string | undefined;
  path: string;
  route: Route | undefined;
}

export interface ReadingParts {
  readonly settings: PipelineSettings;
  readonly classify: HeaderClassifier;
  readonly apiKeyHeader: boolean;
  readonly trustedProxies: TrustedProxies;
}

/** Reads a description; what is wrong with its head is `headFault`. Never throws. */
export function readDescription(parts: ReadingParts, description: RequestDescription): DescribedRequest {
  const { trustedProxies } = parts;
  const { method, target, peer, body } = description;
  const head = new RequestHead();
  head.method = method;
  head.peer = peer;
  head.peerTrusted = trustedProxies.trusts(peer);
  const reader = new RequestHeadReader(parts.classify, parts.apiKeyHeader);
  reader.begin(head);
  for (const [name, value] of completed(description)) reader.field(name.toLowerCase(), value);
  const headFault = reader.finish();
  const mark = target.indexOf('?');
  const socketScheme = description.scheme ?? parts.settings.scheme;
  return {
    method,
    head,
    headFault,
    rawPath: mark < 0 ? target : target.slice(0, mark),
    query: mark < 0 ? undefined : target.slice(mark + 1),
    targetAsSent: target,
    clientAddress: trustedProxies.clientAddress(peer, head.forwardedFor),
    secure: trustedProxies.scheme(peer, head.forwardedProto, socketScheme) === 'https',
    host: trustedProxies.host(peer, head.forwardedHost, head.host),
    bodySha256Hex: createHash('sha256').update(body).digest('hex'),
    path: '',
    route: undefined,
  };
}

/** With the fields that every client sends by itself. */
function completed({ fields, host, body }: RequestDescription): (readonly [string, string])[] {
  const names = new Set(fields.map(([name]) => name.toLowerCase()));
  const added: [string, string][] = [];
  if (!names.has('host')) added.push(['host', host]);
  if (body.length > 0 && !names.has('content-length') && !names.has('transfer-encoding')) {
    added.push(['content-length', String(body.length)]);
  }
  return [...added, ...fields];
}
