import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createHeaderClassifier, dropResponseHeader, headerClass } from '../../../src/http/drop-list.js';

const classify = createHeaderClassifier({ hmacPrefix: 'X-Tollkeeper-', messageSignatures: true });
const custom = createHeaderClassifier({ hmacPrefix: 'X-Pandabase-', messageSignatures: true });

describe('a request field', () => {
  it.each([
    ['host', headerClass.host],
    ['authorization', headerClass.authorization],
    ['x-api-key', headerClass.apiKey],
    ['content-length', headerClass.contentLength],
    ['transfer-encoding', headerClass.transferEncoding],
    ['connection', headerClass.connection],
    ['x-request-id', headerClass.requestId],
    ['user-agent', headerClass.userAgent],
    ['x-forwarded-for', headerClass.forwardedFor],
    ['x-forwarded-proto', headerClass.forwardedProto],
    ['x-forwarded-host', headerClass.forwardedHost],
    ['signature-input', headerClass.signatureInput],
    ['signature', headerClass.signature],
    ['content-digest', headerClass.contentDigest],
  ])('%s is read by the pipeline', (name, kind) => {
    expect(classify(name)).toBe(kind);
    expect(custom(name)).toBe(kind);
  });

  it.each([
    ['hop-by-hop', 'keep-alive te trailer upgrade expect http2-settings proxy proxy-connection proxy-authorization'],
    ['a claim about the client', 'forwarded x-real-ip true-client-ip x-cluster-client-ip cf-connecting-ip client-ip'],
    ['one of its kin', 'x-client-ip fastly-client-ip x-envoy-external-address x-forwarded x-forwarded-port x-host'],
    ['a forwarded path or method', 'x-forwarded-prefix x-forwarded-uri x-forwarded-method x-forwarded-server'],
    ['a URL override', 'x-original-url x-original-uri x-rewrite-url x-override-url x-envoy-original-path'],
    ['a method override', 'x-http-method x-http-method-override x-method-override x-tunnel-method x-original-method'],
    ['an identity', 'x-tollkeeper-token-id x-tollkeeper-tenant x-tollkeeper-scopes x-tollkeeper-subject x-tollkeeper-'],
  ])('that is %s never reaches the upstream', (_, names) => {
    for (const name of names.split(' ')) {
      expect([name, classify(name)]).toEqual([name, headerClass.drop]);
      expect([name, custom(name)]).toEqual([name, headerClass.drop]);
    }
  });

  it.each([
    'accept',
    'cookie',
    'content-type',
    'x-custom',
    'origin',
    'range',
    'x-tollkeepers',
    'x-forwardedfor',
    'x',
    '1',
    'x!y',
  ])('such as %s is forwarded', (name) => expect(classify(name)).toBe(headerClass.forward));

  it('of a signature is told apart under the configured prefix only', () => {
    const fields = [
      ['token', headerClass.hmacToken],
      ['timestamp', headerClass.hmacTimestamp],
      ['signature', headerClass.hmacSignature],
      ['nonce', headerClass.hmacNonce],
      ['content-sha256', headerClass.hmacContentSha256],
    ] as const;
    for (const [name, kind] of fields) {
      expect(classify(`x-tollkeeper-${name}`)).toBe(kind);
      expect(classify(`x-pandabase-${name}`)).toBe(headerClass.forward);
      expect(custom(`x-pandabase-${name}`)).toBe(kind);
      expect(custom(`x-tollkeeper-${name}`)).toBe(headerClass.drop);
    }
    expect(custom('x-pandabase-scopes')).toBe(headerClass.drop);
  });

  it('of a message signature is the upstream’s where such signatures are no credential', () => {
    const without = createHeaderClassifier({ hmacPrefix: 'X-Tollkeeper-', messageSignatures: false });
    expect(without('signature-input')).toBe(headerClass.forward);
    expect(without('signature')).toBe(headerClass.forward);
    expect(without('content-digest')).toBe(headerClass.contentDigest);
  });

  it('of HTTP itself cannot be taken by a careless prefix', () => {
    const careless = createHeaderClassifier({ hmacPrefix: 'X-API-', messageSignatures: true });
    expect(careless('x-api-key')).toBe(headerClass.apiKey);
  });

  it('is dropped with _ or . in its name', () => {
    for (const name of [
      'x_tollkeeper_scopes',
      'x.tollkeeper.scopes',
      'x-tollkeeper_scopes',
      'x_custom',
      'a.b',
      'x_api_key',
      '_',
    ]) {
      expect([name, classify(name)]).toEqual([name, headerClass.drop]);
    }
  });

  it.each([
    'content_length',
    'content.length',
    'transfer_encoding',
    'transfer.encoding',
    'content!length',
    'transfer~encoding',
  ])('that a backend folds into framing, %s, gets the request refused', (name) =>
    expect(classify(name)).toBe(headerClass.framingAlias),
  );

  it.each(['', 'x y', 'x:y', 'x-t\u00ebst', 'x\0', 'x(y', '\ufffd', 'x\ty'])(
    'that is no token, %j, gets it refused',
    (name) => {
      expect(classify(name)).toBe(headerClass.invalidName);
    },
  );

  it('reaches the upstream under no name that folds into one that is read or dropped', () => {
    const sensitive = [
      'x-tollkeeper-scopes',
      'x-tollkeeper-x',
      'x-forwarded-for',
      'x-forwarded-any',
      'x-original-url',
      'host',
      'authorization',
      'content-length',
      'transfer-encoding',
      'x-http-method-override',
      'proxy-x',
      'x-api-key',
      'signature-input',
      'content-digest',
    ];
    const mark = fc.constantFrom(...Array.from("-_.!#$%&'*+^`|~"));
    fc.assert(
      fc.property(fc.constantFrom(...sensitive), fc.array(mark, { minLength: 4, maxLength: 4 }), (name, marks) => {
        let next = 0;
        const spelt = name.replace(/-/g, () => marks[next++] ?? '_');
        expect([spelt, classify(spelt)]).not.toEqual([spelt, headerClass.forward]);
      }),
      { numRuns: 3000 },
    );
  });

  it('gets a class for any name whatever', () => {
    const classes = new Set<number>(Object.values(headerClass));
    fc.assert(
      fc.property(fc.string(), (name) => {
        expect(classes.has(classify(name))).toBe(true);
      }),
    );
  });
});

describe('an answer’s field', () => {
  it('is left out when it is hop-by-hop, framing or ours', () => {
    const names = [
      'connection',
      'keep-alive',
      'proxy-authenticate',
      'te',
      'trailer',
      'upgrade',
      'content-length',
      'transfer-encoding',
      'date',
      'x-request-id',
      'ratelimit',
      'ratelimit-policy',
      'x-ratelimit-limit',
    ];
    for (const name of names) expect([name, dropResponseHeader(name)]).toEqual([name, true]);
  });

  it('is else passed on', () => {
    for (const name of [
      'content-type',
      'set-cookie',
      'etag',
      'x_custom',
      'www-authenticate',
      'location',
      'server',
      'ratelimits',
    ]) {
      expect([name, dropResponseHeader(name)]).toEqual([name, false]);
    }
  });
});
