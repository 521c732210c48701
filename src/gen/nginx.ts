/** nginx: `auth_request`, and `error_page` to turn its 401 and 403 back into the true answer. */
import { clientClaims, clientClaimPrefixes } from '../http/drop-list.js';
import {
  bulkyHeaders,
  comment,
  credentialHeaders,
  digestHeader,
  headersTooLargeBody,
  identityHeaders,
  limitHeaders,
  otherNamesOfFacts,
  otherRefusals,
  unavailableBody,
  upgradeHeaders,
} from './headers.js';
import { authorityOf, bindOf, commandLine, type GeneratedFile, type GenSettings } from './settings.js';

/** nginx cannot remove fields by prefix: these are the ones in use behind `x-forwarded-` and `x-original-`. */
const claimSuffixes = {
  'x-forwarded-': [
    'for',
    'host',
    'proto',
    'port',
    'server',
    'scheme',
    'ssl',
    'by',
    'method',
    'uri',
    'url',
    'path',
    'prefix',
    'user',
    'email',
    'groups',
  ],
  'x-original-': ['for', 'host', 'proto', 'method', 'uri', 'url', 'path'],
} as Readonly<Record<string, readonly string[]>>;

export function generateNginx(settings: GenSettings): readonly GeneratedFile[] {
  return [{ name: 'nginx.conf', text: configuration(settings) }];
}

function configuration(settings: GenSettings): string {
  const { listen, upstream, verify } = settings;
  const https = upstream.scheme === 'https';
  const digest = digestHeader(settings);
  const claims = [
    ...clientClaims,
    ...clientClaimPrefixes.flatMap((prefix) => (claimSuffixes[prefix] ?? []).map((suffix) => prefix + suffix)),
  ].filter((name) => !['x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto'].includes(name));
  return `${comment(`Tollkeeper behind nginx 1.18 or newer (auth_request; tested with 1.22.1).
Include this file in the http block, as /etc/nginx/conf.d/*.conf are.

Made by: ${commandLine('nginx', settings)}
Tollkeeper needs: TOLLKEEPER_TRUSTED_PROXIES with the address nginx connects from (127.0.0.1).

Each request is first put to Tollkeeper's verify plane. nginx sends on what it asked about, byte for byte, or nothing.
Not answered, or answered with anything but 200, 401 and 403: refused.`)}

upstream tollkeeper_verify {
    server ${authorityOf(verify)};
    keepalive 32;
    # Below the 10 s after which Tollkeeper closes an idle connection.
    keepalive_timeout 5s;
}

upstream tollkeeper_upstream {
    server ${authorityOf(upstream)};
    keepalive 32;
    keepalive_timeout 4s;
}

proxy_headers_hash_max_size 2048;
proxy_headers_hash_bucket_size 128;

server {
    # TLS: "listen 443 ssl;" with ssl_certificate and ssl_certificate_key; X-Forwarded-Proto follows by itself.
    listen ${bindOf(listen)};
    # Your host name; "_" stands for every name that no other server has.
    server_name _;

    # The path is matched and sent on as it came: Tollkeeper refuses what could be read in two ways.
    merge_slashes off;
    # Names with _ or . are dropped: a backend would read X_Tollkeeper_Tenant as X-Tollkeeper-Tenant.
    underscores_in_headers off;
    ignore_invalid_headers on;
    # How large a body may be is the upstream's business; set a bound here if it has none.
    client_max_body_size 0;

    # Behind another proxy: take the client's address from it, and from nobody else (ngx_http_realip_module).
    # set_real_ip_from 10.0.0.0/8;
    # real_ip_header X-Forwarded-For;
    # real_ip_recursive on;

    location / {
        auth_request /.tollkeeper;
${[...identityHeaders, digest].map((name) => `        auth_request_set ${variable(name)} ${answered(name)};`).join('\n')}
        auth_request_set $tollkeeper_request_id $upstream_http_x_request_id;
        auth_request_set $tollkeeper_answer $upstream_status;
        auth_request_set $tollkeeper_status $upstream_http_x_error_status;
        auth_request_set $tollkeeper_problem $upstream_http_x_error_problem;
        auth_request_set $tollkeeper_challenge $upstream_http_www_authenticate;
        auth_request_set $tollkeeper_retry_after $upstream_http_retry_after;
        auth_request_set $tollkeeper_allow $upstream_http_allow;
${limitHeaders.map((name) => `        auth_request_set ${variable(name)} ${answered(name)};`).join('\n')}

        # 401 and 403 are Tollkeeper's, 500 is what nginx makes of every other outcome of the question.
        error_page 401 = @tollkeeper_unauthenticated;
        error_page 403 = @tollkeeper_refused;
        error_page 500 = @tollkeeper_unavailable;

        # $request_uri, so that no rewrite can come between what was asked and what is sent.
        proxy_pass ${upstream.scheme}://tollkeeper_upstream$request_uri;
        proxy_http_version 1.1;
${https ? `        proxy_ssl_server_name on;\n        proxy_ssl_name ${upstream.host};\n        proxy_ssl_verify on;\n        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;\n` : ''}        proxy_connect_timeout 2s;
        proxy_send_timeout 30s;
        proxy_read_timeout 30s;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_set_header X-Request-Id $tollkeeper_request_id;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Forwarded-Proto $scheme;

        # Who is calling. An empty value removes the field, the client's own included.
${identityHeaders.map((name) => `        proxy_set_header ${name} ${variable(name)};`).join('\n')}
        # SHA-256 of the body that a signed request declared: the upstream can check that it got this body.
        proxy_set_header ${digest} ${variable(digest)};

        # Credentials end here.
${credentialHeaders(settings)
  .map((name) => `        proxy_set_header ${name} "";`)
  .join('\n')}

        # What a client may not say of itself, its address or another method or URL.
${[...claims, ...upgradeHeaders].map((name) => `        proxy_set_header ${name} "";`).join('\n')}

        # The client sees its limits on every answer, and Tollkeeper's word on them only.
${['X-Request-Id', ...limitHeaders].map((name) => `        proxy_hide_header ${name};`).join('\n')}
        add_header X-Request-Id $tollkeeper_request_id always;
${limitHeaders.map((name) => `        add_header ${name} ${variable(name)} always;`).join('\n')}
    }

    # The question. "internal": a client that asks for this path gets 404.
    location = /.tollkeeper {
        internal;
        proxy_pass http://tollkeeper_verify/verify/nginx;
        proxy_http_version 1.1;
        proxy_connect_timeout 1s;
        proxy_send_timeout 2s;
        proxy_read_timeout 2s;
        proxy_next_upstream error;
        proxy_pass_request_body off;
        proxy_set_header Content-Length "";
        proxy_set_header Connection "";
        proxy_set_header Host tollkeeper;
        proxy_set_header X-Original-Method $request_method;
        proxy_set_header X-Original-URI $request_uri;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-For $remote_addr;
        # The other names of the same facts, which a client could send.
${otherNamesOfFacts
  .filter((name) => name !== 'X-Original-Method' && name !== 'X-Original-URI')
  .map((name) => `        proxy_set_header ${name} "";`)
  .join('\n')}
        # Not needed for the decision, and Tollkeeper reads 4 KiB of headers.
${bulkyHeaders.map((name) => `        proxy_set_header ${name} "";`).join('\n')}
    }

    # The true answer: X-Error-Status has its status, X-Error-Problem its body. nginx adds WWW-Authenticate to 401 itself.
    location @tollkeeper_unauthenticated {
        default_type application/problem+json;
${refusalHeaders(['X-Request-Id'])}
        return 401 $tollkeeper_problem;
    }

    location @tollkeeper_refused {
        default_type application/problem+json;
${refusalHeaders(['X-Request-Id', 'WWW-Authenticate', 'Retry-After', 'Allow', ...limitHeaders])}
${otherRefusals.map((status) => `        if ($tollkeeper_status = ${status}) { return ${status} $tollkeeper_problem; }`).join('\n')}
        return 403 $tollkeeper_problem;
    }

    location @tollkeeper_unavailable {
        default_type application/problem+json;
        add_header Retry-After 1 always;
        add_header Cache-Control no-store always;
        if ($tollkeeper_answer = 431) { return 431 '${headersTooLargeBody}'; }
        return 503 '${unavailableBody}';
    }
}
`;
}

/** The nginx variable that keeps a field of Tollkeeper's answer. */
function variable(name: string): string {
  const known: Readonly<Record<string, string>> = {
    'X-Request-Id': '$tollkeeper_request_id',
    'WWW-Authenticate': '$tollkeeper_challenge',
    'Retry-After': '$tollkeeper_retry_after',
    Allow: '$tollkeeper_allow',
  };
  return (
    known[name] ??
    `$tollkeeper_${name
      .replace(/^X-Tollkeeper-/, '')
      .replace(/-/g, '_')
      .toLowerCase()}`
  );
}

/** The nginx variable of a field as the verify plane answered it. */
function answered(name: string): string {
  return `$upstream_http_${name.replace(/-/g, '_').toLowerCase()}`;
}

function refusalHeaders(names: readonly string[]): string {
  return [...names.map((name) => `${name} ${variable(name)}`), 'Cache-Control no-store']
    .map((field) => `        add_header ${field} always;`)
    .join('\n');
}
