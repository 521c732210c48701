/**
 * Routes from an OpenAPI 3 document: paths, methods, and scopes from `security`.
 *
 * Strict in both directions: an operation becomes exactly one route, and what a route cannot express (a choice between
 * schemes, a credential that Tollkeeper does not read, a template inside a segment) is a fault at its place. Nothing is
 * dropped in silence, and nothing is opened by leaving something out: an operation without any `security` is a fault,
 * `security: []` makes it public. `x-tollkeeper-cost` gives an operation its cost.
 *
 * Only what the routes need is read; the rest of the document is not validated. `webhooks` and `callbacks` are requests
 * that the upstream sends, so they are no routes.
 */
import { costMax, type Fault, found, isScope, routePathFault, scopeRule } from './document.js';
import { routeMethods, type RouteRule } from './routes.js';
import type { ValuePath } from './yaml-file.js';

interface OpenApiRoute {
  readonly rule: RouteRule;
  /** Where its operation stands in the document. */
  readonly path: ValuePath;
  /** Where its security requirement stands. */
  readonly securityPath: ValuePath;
}

export interface OpenApiPolicy {
  readonly routes: readonly OpenApiRoute[];
  /** Scopes that the document's OAuth 2 flows declare. */
  readonly scopes: readonly string[];
  readonly faults: readonly Fault[];
}

type Mapping = Readonly<Record<string, unknown>>;

/** Keys of a path item that are not operations. */
const pathItemKeys = new Set(['$ref', 'summary', 'description', 'servers', 'parameters']);
/** What may stand beside a `$ref` without changing its meaning. */
const besideReference = new Set(['$ref', 'summary', 'description']);
const methodByKey = new Map<string, string>(routeMethods.map((method) => [method.toLowerCase(), method]));

/** Reads the routes of a parsed OpenAPI document. Never throws: everything wrong is a fault. */
export function readOpenApi(document: unknown): OpenApiPolicy {
  return new OpenApiReader(document).read();
}

/** One reading of one document; it collects faults as it goes. */
class OpenApiReader {
  readonly #document: Mapping;
  readonly #faults: Fault[] = [];
  readonly #routes: OpenApiRoute[] = [];

  constructor(document: unknown) {
    this.#document = isMapping(document) ? document : {};
  }

  read(): OpenApiPolicy {
    const { openapi, paths } = this.#document;
    if (typeof openapi !== 'string' || !/^3\.\d+(\.\d+)?$/.test(openapi)) {
      this.#fault(['openapi'], `must be an OpenAPI 3 document, such as openapi: 3.1.0; found ${found(openapi)}`);
    } else if (!isMapping(paths)) {
      this.#fault(['paths'], `must be a mapping of paths; found ${found(paths)}`);
    } else {
      for (const [path, item] of Object.entries(paths)) if (!path.startsWith('x-')) this.#readPath(path, item);
    }
    return { routes: this.#routes, scopes: this.#declaredScopes(), faults: this.#faults };
  }

  #readPath(path: string, written: unknown): void {
    const at = ['paths', path];
    const item = this.#resolve(written, at);
    if (item === undefined) return;
    const fault = routePathFault(path);
    if (fault !== '') return this.#fault(at, fault);
    for (const [key, operation] of Object.entries(item)) {
      if (pathItemKeys.has(key) || key.startsWith('x-')) continue;
      const method = methodByKey.get(key);
      if (method === undefined) {
        this.#fault([...at, key], `cannot be a route: allowed methods are ${[...methodByKey.keys()].join(', ')}`);
      } else if (!isMapping(operation)) {
        this.#fault([...at, key], `must be an operation; found ${found(operation)}`);
      } else {
        this.#readOperation(path, method, item, operation, [...at, key]);
      }
    }
  }

  #readOperation(path: string, method: string, item: Mapping, operation: Mapping, at: ValuePath): void {
    const faultsBefore = this.#faults.length;
    const base = this.#basePath(item, operation, at);
    this.#checkParameters(item['parameters'], at.slice(0, -1));
    this.#checkParameters(operation['parameters'], at);
    const cost = operation['x-tollkeeper-cost'] ?? 1;
    if (!Number.isInteger(cost) || (cost as number) < 1 || (cost as number) > costMax) {
      this.#fault([...at, 'x-tollkeeper-cost'], `must be a whole number from 1 to ${costMax}; found ${found(cost)}`);
    }
    const own = operation['security'] !== undefined;
    const security = own ? operation['security'] : this.#document['security'];
    const securityPath = own ? [...at, 'security'] : ['security'];
    const scopes = security === undefined ? undefined : this.#scopesOf(security, securityPath);
    if (security === undefined) {
      this.#fault(at, 'says nothing about security: name its scopes, or write security: [] to make it public');
    }
    if (scopes === undefined || this.#faults.length > faultsBefore) return;
    const isPublic = scopes === 'public';
    if (isPublic && operation['x-tollkeeper-cost'] !== undefined) {
      return this.#fault([...at, 'x-tollkeeper-cost'], 'a public operation is charged nothing: remove it');
    }
    const rule: RouteRule = {
      methods: [method],
      pattern: path === '/' && base !== '' ? base : base + path,
      scopes: isPublic ? [] : scopes,
      cost: cost as number,
      public: isPublic,
    };
    this.#routes.push({ rule, path: at, securityPath });
  }

  /** Scopes that a security requirement asks for, 'public' for none at all, undefined after a fault. */
  #scopesOf(security: unknown, at: ValuePath): readonly string[] | 'public' | undefined {
    if (!Array.isArray(security)) return this.#fault(at, `must be a list of requirements; found ${found(security)}`);
    if (security.length === 0) return 'public';
    const alternatives = security.map((requirement: unknown, index) => this.#alternative(requirement, [...at, index]));
    const [first] = alternatives;
    if (first === undefined || alternatives.includes(undefined)) return undefined;
    if (alternatives.some((alternative) => JSON.stringify(alternative) !== JSON.stringify(first))) {
      return this.#fault(at, 'lists alternatives that ask for different scopes; a route has one set of scopes');
    }
    return first;
  }

  /** One requirement: all of its scopes, sorted. */
  #alternative(requirement: unknown, at: ValuePath): readonly string[] | 'public' | undefined {
    if (!isMapping(requirement)) return this.#fault(at, `must be a mapping of schemes; found ${found(requirement)}`);
    const names = Object.keys(requirement);
    if (names.length === 0) return 'public';
    if (names.length > 1) {
      return this.#fault(at, `asks for ${names.join(' and ')} together; a request carries exactly one credential`);
    }
    const name = names[0] as string;
    const scopes = requirement[name];
    if (!Array.isArray(scopes)) return this.#fault([...at, name], `must be a list of scopes; found ${found(scopes)}`);
    for (const [index, scope] of scopes.entries()) {
      if (typeof scope === 'string' && isScope(scope)) continue;
      return this.#fault([...at, name, index], `${scopeRule}; found ${found(scope)}`);
    }
    const fault = this.#schemeFault(name, scopes.length > 0);
    if (fault !== '') return this.#fault([...at, name], fault);
    return [...new Set(scopes as string[])].sort();
  }

  /** Why a scheme cannot be what Tollkeeper checks, '' when it can. */
  #schemeFault(name: string, hasScopes: boolean): string {
    const components = this.#document['components'];
    const schemes = isMapping(components) ? components['securitySchemes'] : undefined;
    const written = isMapping(schemes) ? schemes[name] : undefined;
    const scheme = isMapping(written) && '$ref' in written ? this.#target(written['$ref']) : written;
    if (!isMapping(scheme)) return 'is not declared in components.securitySchemes';
    if (scheme['type'] === 'oauth2' || scheme['type'] === 'openIdConnect') return '';
    const isBearer = scheme['type'] === 'http' && String(scheme['scheme']).toLowerCase() === 'bearer';
    const isApiKey = scheme['type'] === 'apiKey' && scheme['in'] === 'header';
    if (!isBearer && !isApiKey) {
      return 'is no scheme that Tollkeeper checks: oauth2, openIdConnect, http bearer or an apiKey in a header';
    }
    if (hasScopes && String(this.#document['openapi']).startsWith('3.0')) {
      return 'lists scopes, which OpenAPI 3.0 knows for oauth2 and openIdConnect only; use openapi: 3.1.0';
    }
    return '';
  }

  #declaredScopes(): readonly string[] {
    const components = this.#document['components'];
    const schemes = isMapping(components) ? components['securitySchemes'] : undefined;
    const declared = new Set<string>();
    for (const [name, scheme] of entriesOf(schemes)) {
      for (const [flowName, flow] of entriesOf(isMapping(scheme) ? scheme['flows'] : undefined)) {
        for (const [scope] of entriesOf(isMapping(flow) ? flow['scopes'] : undefined)) {
          if (isScope(scope)) declared.add(scope);
          else this.#fault(['components', 'securitySchemes', name, 'flows', flowName, 'scopes', scope], scopeRule);
        }
      }
    }
    return [...declared];
  }

  /** Path in front of every path of an operation: that of its servers, which must agree. */
  #basePath(item: Mapping, operation: Mapping, at: ValuePath): string {
    const [servers, path] =
      operation['servers'] !== undefined
        ? [operation['servers'], [...at, 'servers']]
        : item['servers'] !== undefined
          ? [item['servers'], [...at.slice(0, -1), 'servers']]
          : [this.#document['servers'] ?? [], ['servers']];
    if (!Array.isArray(servers)) return this.#fault(path, `must be a list of servers; found ${found(servers)}`) ?? '';
    const bases = new Set(servers.map((server: unknown, index) => this.#serverPath(server, [...path, index])));
    bases.delete(undefined);
    if (bases.size > 1) {
      const list = [...bases].map((base) => base || '/').join(', ');
      this.#fault(path, `have different base paths (${list}); a route has one`);
    }
    return [...bases][0] ?? '';
  }

  /** Base path of one server, '' for none, undefined after a fault. */
  #serverPath(server: unknown, at: ValuePath): string | undefined {
    const url = isMapping(server) ? server['url'] : undefined;
    if (typeof url !== 'string' || !isMapping(server)) {
      return this.#fault([...at, 'url'], `must be the URL of a server; found ${found(url)}`);
    }
    // Scheme and host do not matter here; their variables may stand.
    const written = url.replace(/^([a-z][a-z0-9+.-]*:)?\/\/[^/]*/i, '');
    const path = written.replace(/\{([^}]*)\}/g, (whole, name: string) => fixedVariable(server, name) ?? whole);
    const base = path === '' || path === '.' ? '' : path.replace(/\/$/, '');
    const fault = base === '' ? '' : routePathFault(base);
    if (fault === '' && !base.includes('{')) return base;
    return this.#fault([...at, 'url'], fault || 'has a variable in its path; a route needs a fixed base path');
  }

  /** Path parameters in matrix style begin with `;`, which no request path may hold. */
  #checkParameters(parameters: unknown, at: ValuePath): void {
    if (!Array.isArray(parameters)) return;
    for (const [index, written] of parameters.entries()) {
      const parameter = this.#resolve(written, [...at, 'parameters', index]);
      if (parameter?.['in'] === 'path' && parameter['style'] === 'matrix') {
        this.#fault([...at, 'parameters', index], 'is in matrix style; a request path may not hold a semicolon');
      }
    }
  }

  /** A mapping, behind a reference if need be; undefined after a fault. */
  #resolve(written: unknown, at: ValuePath): Mapping | undefined {
    const isReference = isMapping(written) && '$ref' in written;
    const value = isReference ? this.#target(written['$ref']) : written;
    const beside = isReference ? Object.keys(written).filter((key) => !besideReference.has(key)) : [];
    if (beside.length > 0) return this.#fault(at, `has ${beside.join(', ')} beside a reference; write it in one place`);
    if (isMapping(value) && !('$ref' in value)) return value;
    return this.#fault(
      at,
      isReference
        ? `refers to ${found(written['$ref'])}; only references to a place in this document (#/…) are followed, one step`
        : `must be a mapping; found ${found(value)}`,
    );
  }

  /** What a reference inside the document points at (RFC 6901), undefined when there is nothing. */
  #target(reference: unknown): unknown {
    if (typeof reference !== 'string' || !reference.startsWith('#/')) return undefined;
    let value: unknown = this.#document;
    for (const step of reference.slice(2).split('/')) {
      const key = unescapePointer(step);
      value = isMapping(value) && Object.hasOwn(value, key) ? value[key] : undefined;
    }
    return value;
  }

  #fault(path: ValuePath, message: string): undefined {
    if (this.#faults.every((fault) => fault.message !== message || String(fault.path) !== String(path))) {
      this.#faults.push({ path, message });
    }
  }
}

/** The one value a server variable can have: its default, unless `enum` offers a choice. */
function fixedVariable(server: Mapping, name: string): string | undefined {
  const variables = server['variables'];
  const variable = isMapping(variables) ? variables[name] : undefined;
  if (!isMapping(variable) || typeof variable['default'] !== 'string') return undefined;
  const choices = variable['enum'];
  return Array.isArray(choices) && choices.length > 1 ? undefined : variable['default'];
}

function unescapePointer(step: string): string {
  try {
    return decodeURIComponent(step).replaceAll('~1', '/').replaceAll('~0', '~');
  } catch {
    return step;
  }
}

function entriesOf(value: unknown): [string, unknown][] {
  return isMapping(value) ? Object.entries(value) : [];
}

function isMapping(value: unknown): value is Mapping {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
