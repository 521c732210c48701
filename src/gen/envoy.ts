/** Envoy: `ext_authz` over HTTP. Written from its documentation; Envoy cannot run where the tests run. */
import { clientClaims } from '../http/drop-list.js';
import {
  askedHeaders,
  comment,
  credentialHeaders,
  digestHeader,
  identityHeaders,
  limitHeaders,
  otherNamesOfFacts,
} from './headers.js';
import { authorityOf, commandLine, type GeneratedFile, type GenSettings, type Origin } from './settings.js';

export function generateEnvoy(settings: GenSettings): readonly GeneratedFile[] {
  return [{ name: 'envoy.yaml', text: configuration(settings) }];
}

function configuration(settings: GenSettings): string {
  const { listen, upstream, verify } = settings;
  const asked = [...askedHeaders(settings), 'X-Forwarded-For', 'X-Forwarded-Proto'].map((name) => name.toLowerCase());
  const identity = [...identityHeaders].map((name) => name.toLowerCase());
  const digest = digestHeader(settings).toLowerCase();
  const claims = [...otherNamesOfFacts.map((name) => name.toLowerCase()), 'x-forwarded-host', ...clientClaims];
  return `${comment(`Tollkeeper behind Envoy 1.29 or newer.
NOT RUN BY THE TESTS of Tollkeeper, which have no Envoy: written from the documentation, only its syntax is checked, and
the question Envoy asks is imitated. Try it with spoofed headers before you rely on it (docs/verify.md says with which).

Made by: ${commandLine('envoy', settings)}
Tollkeeper needs: TOLLKEEPER_TRUSTED_PROXIES with the address Envoy connects from, and its own address where Envoy adds
it to X-Forwarded-For.`)}
static_resources:
  listeners:
    - name: tollkeeper
      address:
        socket_address: { address: ${JSON.stringify(listen.host)}, port_value: ${listen.port} }
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: tollkeeper
                # The client's address is the connection's; behind another proxy set xff_num_trusted_hops.
                use_remote_address: true
                # The path is asked about and sent on as it came: Tollkeeper refuses what could be read in two ways.
                normalize_path: false
                merge_slashes: false
                path_with_escaped_slashes_action: REJECT_REQUEST
                common_http_protocol_options:
                  # A backend would read X_Tollkeeper_Tenant as X-Tollkeeper-Tenant.
                  headers_with_underscores_action: REJECT_REQUEST
                request_headers_timeout: 10s
                stream_idle_timeout: 60s
                route_config:
                  name: tollkeeper
                  virtual_hosts:
                    - name: upstream
                      domains: ["*"]
                      routes:
                        - match: { prefix: / }
                          route: { cluster: upstream, timeout: 30s }
                http_filters:
                  # What a client may not say of itself, its address or another method or URL, and who it is.
                  - name: envoy.filters.http.header_mutation
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
                      mutations:
                        request_mutations:
${[...identity, ...claims].map((name) => `                          - remove: ${name}`).join('\n')}
                  # The question: the client's method, and its path behind /verify/envoy.
                  - name: envoy.filters.http.ext_authz
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
                      transport_api_version: V3
                      failure_mode_allow: false
                      status_on_error: { code: ServiceUnavailable }
                      allowed_headers:
                        patterns:
${asked.map((name) => `                          - { exact: ${name}, ignore_case: true }`).join('\n')}
                      http_service:
                        server_uri:
                          uri: http://${authorityOf(verify)}
                          cluster: tollkeeper_verify
                          timeout: 2s
                        path_prefix: /verify/envoy
                        authorization_response:
                          allowed_upstream_headers:
                            patterns:
${[...identity, digest, 'x-request-id'].map((name) => `                              - { exact: ${name}, ignore_case: true }`).join('\n')}
                          # A refusal goes to the client with all its fields; an admitted one learns of its limits.
                          allowed_client_headers_on_success:
                            patterns:
${[...limitHeaders, 'X-Request-Id'].map((name) => `                              - { exact: ${name.toLowerCase()}, ignore_case: true }`).join('\n')}
                  # Credentials end here. The digest of a body goes on for a signed request only: for others Tollkeeper
                  # has it removed (x-envoy-auth-headers-to-remove).
                  - name: envoy.filters.http.header_mutation
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
                      mutations:
                        request_mutations:
${credentialHeaders(settings)
  .map((name) => `                          - remove: ${name.toLowerCase()}`)
  .join('\n')}
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router

  clusters:
${cluster('tollkeeper_verify', verify, '1s')}
${cluster('upstream', upstream, '2s')}
`;
}

function cluster(name: string, origin: Origin, connectTimeout: string): string {
  const host = origin.host.replace(/^\[|\]$/g, '');
  const tls = `
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          sni: ${JSON.stringify(host)}
          common_tls_context:
            validation_context:
              trusted_ca: { filename: /etc/ssl/certs/ca-certificates.crt }
              match_typed_subject_alt_names:
                - { san_type: DNS, matcher: { exact: ${JSON.stringify(host)} } }`;
  return `    - name: ${name}
      type: STRICT_DNS
      connect_timeout: ${connectTimeout}
      load_assignment:
        cluster_name: ${name}
        endpoints:
          - lb_endpoints:
              - endpoint:
                  address:
                    socket_address: { address: ${JSON.stringify(host)}, port_value: ${origin.port} }${origin.scheme === 'https' ? tls : ''}`;
}
