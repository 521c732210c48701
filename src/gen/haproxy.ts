/** HAProxy: it has no subrequest of its own, so a small Lua action (its own HTTP client, from 2.6) asks. */
import { clientClaims, clientClaimPrefixes } from '../http/drop-list.js';
import {
  askedHeaders,
  comment,
  credentialHeaders,
  digestHeader,
  headersTooLargeBody,
  identityHeaders,
  lengthRequiredBody,
  limitHeaders,
  noHostBody,
  noPathBody,
  unavailableBody,
  upgradeHeaders,
} from './headers.js';
import { authorityOf, bindOf, commandLine, type GeneratedFile, type GenSettings } from './settings.js';

export function generateHaproxy(settings: GenSettings): readonly GeneratedFile[] {
  return [
    { name: 'haproxy.cfg', text: configuration(settings) },
    { name: 'tollkeeper.lua', text: luaAction(settings) },
  ];
}

function configuration(settings: GenSettings): string {
  const { listen, upstream } = settings;
  const digest = digestHeader(settings);
  const tls =
    upstream.scheme === 'https'
      ? ` ssl verify required ca-file /etc/ssl/certs/ca-certificates.crt sni str(${upstream.host})`
      : '';
  return `${comment(`Tollkeeper behind HAProxy 2.6 or newer with Lua (tested with 2.6.12).
tollkeeper.lua must lie in the same folder; it asks Tollkeeper's verify plane about every request.

Made by: ${commandLine('haproxy', settings)}
Tollkeeper needs: TOLLKEEPER_TRUSTED_PROXIES with the address HAProxy connects from (127.0.0.1).

HAProxy sends on what it asked about, byte for byte, or nothing. No answer, or one that is not Tollkeeper's: 503.`)}

global
    # tollkeeper.lua is looked for beside this file.
    default-path config
    lua-load tollkeeper.lua

defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    timeout http-request 10s
    timeout http-keep-alive 10s

frontend tollkeeper
    # TLS: "bind :443 ssl crt /etc/haproxy/site.pem alpn http/1.1"; X-Forwarded-Proto follows by itself. Not h2: there a
    # body needs no length, and HAProxy passes on the trailers behind it (see below).
    bind ${bindOf(listen)}

    # A target that is no path (http://host/path, *) is sent on as it is: what was asked about would be another one.
${refuse(400, noPathBody)} if !{ url_beg / } !{ req.ver 2.0 } !{ req.ver 3.0 }
    # HAProxy itself takes a request that names no host, or an empty one.
${refuse(400, noHostBody)} unless { req.hdr(host) -m len gt 0 }
    # A body in chunks may end with trailers, which HAProxy passes on and no rule can remove: a backend that takes
    # trailers for headers would read an X-Tollkeeper-Tenant of the client there.
${refuse(411, lengthRequiredBody)} if { req.hdr(transfer-encoding) -m found }

    # Names with another mark than - go: a backend would read X_Tollkeeper_Tenant as X-Tollkeeper-Tenant.
    http-request del-header [^A-Za-z0-9-] -m reg
    # What a client may not say of itself, its address or another method or URL.
${clientClaimPrefixes.map((prefix) => `    http-request del-header ${prefix} -m beg`).join('\n')}
${clientClaims.map((name) => `    http-request del-header ${name}`).join('\n')}
    # An upstream removes the fields that Connection names: it must not name ours.
    http-request del-header connection
    # An upgrade (h2c, WebSocket) would open a tunnel past every later check.
${upgradeHeaders.map((name) => `    http-request del-header ${name}`).join('\n')}

    # The question. A script that fails lets a request pass, so only its word "passed" does.
    http-request lua.tollkeeper
${refuse(503, unavailableBody, ' hdr Retry-After 1')} unless { var(txn.tollkeeper_verdict) -m str passed }

    # Credentials end here, and so does every identity the client claims.
${credentialHeaders(settings)
  .filter((name) => !name.startsWith(settings.hmacPrefix))
  .map((name) => `    http-request del-header ${name}`)
  .join('\n')}
${[...new Set(['X-Tollkeeper-', settings.hmacPrefix])].map((prefix) => `    http-request del-header ${prefix} -m beg`).join('\n')}
    # Who is calling, as Tollkeeper says.
${[...identityHeaders, 'X-Request-Id'].map((name) => setFrom('request', name)).join('\n')}
    # SHA-256 of the body that a signed request declared: the upstream can check that it got this body.
${setFrom('request', digest)}
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    http-request set-header X-Forwarded-Host %[req.hdr(host)]

    # The client sees its limits on every answer, and Tollkeeper's word on them only.
${['X-Request-Id', ...limitHeaders].map((name) => `    http-response del-header ${name}`).join('\n')}
${['X-Request-Id', ...limitHeaders].map((name) => setFrom('response', name)).join('\n')}

    default_backend tollkeeper_upstream

backend tollkeeper_upstream
    server upstream ${authorityOf(upstream)}${tls}
`;
}

function luaAction(settings: GenSettings): string {
  const asked = askedHeaders(settings).map((name) => name.toLowerCase());
  const kept = [...identityHeaders, digestHeader(settings), ...limitHeaders, 'X-Request-Id'].map((name) =>
    name.toLowerCase(),
  );
  return `${comment(
    `Asks Tollkeeper's verify plane whether a request may pass; haproxy.cfg beside this file calls it.

Made by: ${commandLine('haproxy', settings)} --out .`,
    '--',
  )}

local verify_url = "http://${authorityOf(settings.verify)}/verify"
local timeout_ms = 2000

-- What Tollkeeper decides by. All lines of a field are passed on: a repeated credential is refused, not chosen from.
local asked = {
${asked.map((name) => `    "${name}",`).join('\n')}
}

-- What haproxy.cfg sets from the answer, by variable.
local kept = {
${kept.map((name) => `    ["${name}"] = "${variable(name)}",`).join('\n')}
}

-- Fields of a refusal that are of this connection, or that HAProxy writes itself.
local own = { ["connection"] = true, ["content-length"] = true, ["transfer-encoding"] = true, ["keep-alive"] = true }

core.register_action("tollkeeper", { "http-req" }, function(txn)
    txn:set_var("txn.tollkeeper_verdict", "asked")
    local headers = txn.http:req_get_headers()
    local question = {
        ["x-forwarded-method"] = { txn.sf:method() },
        ["x-forwarded-uri"] = { txn.sf:pathq() },
        ["x-forwarded-for"] = { txn.sf:src() },
        ["x-forwarded-proto"] = { txn.sf:ssl_fc() == "1" and "https" or "http" },
    }
    if headers["host"] ~= nil then question["x-forwarded-host"] = { headers["host"][0] } end
    for _, name in ipairs(asked) do
        if headers[name] ~= nil then
            question[name] = {}
            for at = 0, #headers[name] do question[name][at + 1] = headers[name][at] end
        end
    end

    local answer = core.httpclient():get({ url = verify_url, headers = question, timeout = timeout_ms })
    if answer == nil or answer.headers == nil then return end
    if answer.status == 431 then
        local headers = { ["content-type"] = { "application/problem+json" }, ["cache-control"] = { "no-store" } }
        txn:done(txn:reply({ status = 431, headers = headers, body = '${headersTooLargeBody}' }))
    end
    -- HAProxy answers with a page of its own when nobody else does: only Tollkeeper sends a request id.
    if answer.headers["x-request-id"] == nil then return end
    for name, var in pairs(kept) do
        if answer.headers[name] ~= nil then txn:set_var(var, answer.headers[name][0]) end
    end
    if answer.status == 200 then
        txn:set_var("txn.tollkeeper_verdict", "passed")
        return
    end
    if answer.status < 400 then return end

    local reply = txn:reply({ status = answer.status, reason = answer.reason, body = answer.body })
    for name, values in pairs(answer.headers) do
        if not own[name] then
            for at = 0, #values do reply:add_header(name, values[at]) end
        end
    end
    txn:done(reply)
end)
`;
}

function variable(name: string): string {
  return `txn.tollkeeper_${name.toLowerCase().replace(/-/g, '_')}`;
}

function refuse(status: number, body: string, fields = ''): string {
  return `    http-request return status ${status} content-type application/problem+json${fields} hdr Cache-Control no-store string '${body}'`;
}

function setFrom(direction: 'request' | 'response', name: string): string {
  const from = variable(name);
  return `    http-${direction} set-header ${name} %[var(${from})] if { var(${from}) -m found }`;
}
