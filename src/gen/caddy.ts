/** Caddy: `forward_auth` written out, because its short form leaves fields of the client that Tollkeeper did not set. */
import { clientClaims, clientClaimPrefixes } from '../http/drop-list.js';
import {
  bulkyHeaders,
  comment,
  credentialHeaders,
  digestHeader,
  foldableMarks,
  identityHeaders,
  limitHeaders,
  unavailableBody,
  upgradeHeaders,
} from './headers.js';
import { authorityOf, commandLine, type GeneratedFile, type GenSettings } from './settings.js';

export function generateCaddy(settings: GenSettings): readonly GeneratedFile[] {
  return [{ name: 'Caddyfile', text: configuration(settings) }];
}

function configuration(settings: GenSettings): string {
  const { listen, upstream, verify } = settings;
  const digest = digestHeader(settings);
  const prefixes = [...new Set(['X-Tollkeeper-', settings.hmacPrefix])];
  const answered = [...identityHeaders, digest];
  const wanted = [...clientClaimPrefixes.map((prefix) => `${prefix}*`), ...clientClaims];
  return `${comment(`Tollkeeper behind Caddy 2.6 or newer (tested with 2.6.2).

Made by: ${commandLine('caddy', settings)}
Tollkeeper needs: TOLLKEEPER_TRUSTED_PROXIES with the address Caddy connects from (127.0.0.1).

Each request is first put to Tollkeeper's verify plane. Caddy sends on the target it asked about, or nothing.
Tollkeeper away: 503. Every other refusal reaches the client as Tollkeeper gave it.`)}

# HTTPS: write your host name instead of "http://:${listen.port}".
http://:${listen.port} {
	bind ${listen.host}

	# "route" keeps the order of the steps.
	route {
		vars tollkeeper asking

		# Names with another mark than - go: a backend would read X_Tollkeeper_Tenant as X-Tollkeeper-Tenant.
${foldableMarks.map((mark) => `\t\trequest_header "-*${mark}*"`).join('\n')}
		# Fields that Connection names are removed on the way to the upstream: it must not name ours.
		request_header -Connection
		# What a client may not say of itself, its address or another method or URL.
${wanted.map((name) => `\t\trequest_header -${name}`).join('\n')}
		# An upgrade (h2c, WebSocket) would open a tunnel past every later check.
${upgradeHeaders.map((name) => `\t\trequest_header -${name}`).join('\n')}

		# The question. What is not answered with 200 goes to the client as it is.
		reverse_proxy ${authorityOf(verify)} {
			method GET
			# "?": without the client's query, which is in X-Forwarded-Uri.
			rewrite /verify?
			header_up X-Forwarded-Method {http.request.method}
			header_up X-Forwarded-Uri {http.request.uri}
			# Not needed for the decision, and Tollkeeper reads 4 KiB of headers.
${bulkyHeaders.map((name) => `\t\t\theader_up -${name}`).join('\n')}
			transport http {
				dial_timeout 1s
				response_header_timeout 2s
				compression off
			}

			@passed status 200
			handle_response @passed {
				route {
					# An unset variable is empty, where the placeholder of an absent field would stand as it is.
					vars {
						tollkeeper passed
${[...answered, ...limitHeaders].map((name) => `\t\t\t\t\t\t${variable(name)} {http.reverse_proxy.header.${canonical(name)}}`).join('\n')}
					}
					# Credentials end here, and so does every identity the client claims.
${credentialHeaders(settings)
  .filter((name) => !name.startsWith(settings.hmacPrefix))
  .map((name) => `\t\t\t\t\trequest_header -${name}`)
  .join('\n')}
${prefixes.map((prefix) => `\t\t\t\t\trequest_header -${prefix}*`).join('\n')}
					# Who is calling, as Tollkeeper says; the digest is that of the body a signed request declared.
${answered.map((name) => setWhenAnswered('request_header', name)).join('\n')}
					request_header X-Request-Id {http.reverse_proxy.header.X-Request-Id}
					# The client sees its limits on every answer.
					header X-Request-Id {http.reverse_proxy.header.X-Request-Id}
${limitHeaders.map((name) => setWhenAnswered('header', name)).join('\n')}
				}
			}
		}

		reverse_proxy ${upstream.scheme}://${authorityOf(upstream)} {
			# Tollkeeper's word on the limits only.
${['X-Request-Id', ...limitHeaders].map((name) => `\t\t\theader_down -${name}`).join('\n')}
			transport http {
				dial_timeout 2s
				response_header_timeout 30s
				# What the upstream sends goes to the client unchanged.
				compression off
			}
		}
	}

	handle_errors {
		@unanswered vars tollkeeper asking
		handle @unanswered {
			header Content-Type application/problem+json
			header Retry-After 1
			header Cache-Control no-store
			respond \`${unavailableBody}\` 503
		}
		handle {
			respond "{http.error.status_code} {http.error.status_text}" {http.error.status_code}
		}
	}
}
`;
}

/** Sets a field to what Tollkeeper answered; a field it did not answer with is not made empty. */
function setWhenAnswered(directive: 'request_header' | 'header', name: string): string {
  const matcher = `@${variable(name)}`;
  return `\t\t\t\t\t${matcher} not vars ${variable(name)} ""\n\t\t\t\t\t${directive} ${matcher} ${name} {http.vars.${variable(name)}}`;
}

function variable(name: string): string {
  return `tollkeeper_${name
    .replace(/^X-Tollkeeper-/, '')
    .toLowerCase()
    .replace(/-/g, '_')}`;
}

/** Field names as Go writes them: Caddy's placeholders know no other spelling. */
function canonical(name: string): string {
  return name.toLowerCase().replace(/(^|-)[a-z]/g, (start) => start.toUpperCase());
}
