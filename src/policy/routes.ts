/**
 * The policy in the form that decides: a trie of path segments with the routes at its nodes.
 *
 * A pattern matches whole segments, from the first to the last. A literal segment wins over `{param}`, decided from
 * left to right, and the path alone selects the pattern: a method that the selected pattern does not list is not looked
 * for under a wider one. HEAD is a method like the others.
 *
 * Some characters have two spellings that a backend may or may not tell apart (`:` and `%3A`). A path that spells a
 * literal in the other way must not slip into a `{param}` beside it: it matches nothing, or, where the default would
 * let it through, the literal.
 *
 * Hot path: one Map look-up a segment; it steps back only where a literal and a `{param}` lead into the same depth.
 */
import { hasTwoSpellings, meaningOf } from './path.js';

/** What callers get while Redis is away: 503, or, who was admitted shortly before, an answer (admission/outage.ts). */
export const outageModes = ['deny', 'serve-known'] as const;
export type OutageMode = (typeof outageModes)[number];

/** What one route asks of a caller. */
export interface Route {
  /** The path as the policy has it, `/orders/{id}`: the `route` of logs and metrics. */
  readonly pattern: string;
  /** All of these are needed; empty means that any valid token will do. */
  readonly scopes: readonly string[];
  /** What a call takes from each limit. */
  readonly cost: number;
  /** No credential is asked for and nothing is charged. */
  readonly public: boolean;
  /** Where the route differs from the configuration's `onStoreOutage`. */
  readonly onStoreOutage?: OutageMode;
}

/** One line of a policy: a {@link Route} and its methods. */
export interface RouteRule extends Route {
  readonly methods: readonly string[];
}

/** Methods a policy may name. TRACE and CONNECT are never forwarded. */
export const routeMethods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const;

interface Target {
  readonly methods: Map<string, Route>;
  allow: string;
}

interface Node {
  readonly literals: Map<string, Node>;
  /** Literals that can be spelled in two ways, by their meaning; undefined where there is none. */
  respelt: Map<string, Node> | undefined;
  param: Node | undefined;
  target: Target | undefined;
}

/** Stands for a path that must match nothing, not even a wider pattern. */
const nothing: Target = { methods: new Map(), allow: '' };

export class Policy {
  /** What no route matches is open to any valid token, instead of refused. */
  readonly defaultAllow: boolean;
  /** Every scope the policy declares, in its order. */
  readonly scopes: readonly string[];
  readonly rules: readonly RouteRule[];
  /** Some route serves known tokens while Redis is away. */
  readonly servesKnown: boolean;
  readonly #root = emptyNode();

  /** Paths must be normalised and rules free of conflicts ({@link import('./load.js').loadPolicy} sees to it). */
  constructor(defaultAllow: boolean, scopes: readonly string[], rules: readonly RouteRule[]) {
    this.defaultAllow = defaultAllow;
    this.scopes = scopes;
    this.rules = rules;
    this.servesKnown = rules.some(({ onStoreOutage }) => onStoreOutage === 'serve-known');
    for (const rule of rules) addRule(this.#root, rule);
  }

  /** The route for a method and a normalised path; undefined when the policy has none. */
  match(method: string, path: string): Route | undefined {
    return this.#targetOf(path)?.methods.get(method);
  }

  /** Value of `Allow` for a normalised path: the methods its routes list, '' when no route has the path. */
  allowedMethods(path: string): string {
    return this.#targetOf(path)?.allow ?? '';
  }

  #targetOf(path: string): Target | undefined {
    return path.length === 1 ? this.#root.target : this.#find(this.#root, path, 1);
  }

  #find(node: Node, path: string, from: number): Target | undefined {
    const { length } = path;
    if (from > length) return node.target;
    const slash = path.indexOf('/', from);
    const end = slash === -1 ? length : slash;
    const segment = path.slice(from, end);
    const literal = node.literals.get(segment);
    if (literal !== undefined) {
      const target = this.#find(literal, path, end + 1);
      if (target !== undefined) return target;
    } else if (node.respelt !== undefined) {
      const meant = node.respelt.get(meaningOf(segment));
      const target = meant === undefined ? undefined : this.#find(meant, path, end + 1);
      if (target !== undefined) return this.defaultAllow ? target : nothing;
    }
    return node.param === undefined ? undefined : this.#find(node.param, path, end + 1);
  }
}

/** The same text for all paths that a request could not tell apart: parameters without their names. */
export function shapeOf(path: string): string {
  return segmentsOf(path)
    .map((segment) => (isParameter(segment) ? '{}' : meaningOf(segment)))
    .join('/');
}

/** The segments of a path pattern; none for `/`. */
export function segmentsOf(path: string): string[] {
  return path === '/' ? [] : path.slice(1).split('/');
}

/** `{name}`. A literal brace is written as an escape, so it is never mistaken. */
export function isParameter(segment: string): boolean {
  return segment.startsWith('{');
}

function emptyNode(): Node {
  return { literals: new Map(), respelt: undefined, param: undefined, target: undefined };
}

function addRule(root: Node, rule: RouteRule): void {
  let node = root;
  for (const segment of segmentsOf(rule.pattern)) {
    node = isParameter(segment) ? (node.param ??= emptyNode()) : literalNode(node, segment);
  }
  const target = (node.target ??= { methods: new Map(), allow: '' });
  for (const method of rule.methods) {
    if (target.methods.has(method)) throw new Error(`${method} ${rule.pattern} is ruled twice`);
    target.methods.set(method, rule);
  }
  target.allow = routeMethods.filter((method) => target.methods.has(method)).join(', ');
}

function literalNode(node: Node, segment: string): Node {
  let child = node.literals.get(segment);
  if (child === undefined) {
    child = emptyNode();
    node.literals.set(segment, child);
    if (hasTwoSpellings(segment)) (node.respelt ??= new Map()).set(meaningOf(segment), child);
  }
  return child;
}
