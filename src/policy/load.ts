/**
 * Reads a policy from where the configuration says it is, judges it as a whole and builds the {@link Policy}.
 *
 * All or nothing: an OperatorError names everything that is wrong, each on a line of its own, and the caller keeps the
 * policy it has.
 */
import { dirname, isAbsolute, join } from 'node:path';
import type { PolicySource } from '../config/schema.js';
import { OperatorError } from '../core/failure.js';
import { type Fault, found, type PolicyDocument, policyKeys, readPolicyDocument } from './document.js';
import { readOpenApi } from './openapi.js';
import { Policy, type RouteRule, shapeOf } from './routes.js';
import { readYamlFile, type ValuePath, type YamlFile } from './yaml-file.js';

/** A value that holds a policy document and says where its parts stand. */
interface PolicyText {
  /** File that relative paths in the document start from. */
  readonly path: string;
  readonly value: unknown;
  readonly at: (path: ValuePath) => string;
}

/** A route and where it was written, for the message about a conflict. */
interface PlacedRule {
  readonly rule: RouteRule;
  readonly place: string;
}

/** The policy when none is configured: every route is refused. */
export const denyAll = new Policy(false, [], []);

/**
 * Loads a policy. `source` is what the configuration has: a file whose top level is `policy:` or the policy itself, or a
 * policy written into the configuration file. Throws an OperatorError with every problem on its own line, as
 * `file:line:column: key: what is wrong`.
 */
export function loadPolicy(source: PolicySource | undefined): Policy {
  if (source === undefined) return denyAll;
  return source.kind === 'file' ? loadFile(source.path, true) : build(inlineText(source));
}

function inlineText(source: Extract<PolicySource, { kind: 'inline' }>): PolicyText {
  return {
    path: source.source,
    value: source.value,
    at: (path) => `${source.source}:${source.lineOf(path)}`,
  };
}

function loadFile(path: string, mayRefer: boolean): Policy {
  const file = readYamlFile(path);
  const { value } = file;
  if (!isMapping(value) || !('policy' in value)) return build(file);
  const strays = policyKeys.filter((key) => key in value);
  if (strays.length > 0) {
    throw failure(strays.map((key) => `${file.at([key])}: ${key}: stands beside policy:, indent it to stand below`));
  }
  // The other keys are those of a configuration file, which src/config judges.
  if (typeof value['policy'] === 'string' && mayRefer) return loadFile(besides(path, value['policy']), false);
  return build({ path, value: value['policy'], at: (inner) => file.at(['policy', ...inner]) });
}

function build(text: PolicyText): Policy {
  if (text.value === null || text.value === undefined) {
    throw new OperatorError(`${text.at([])}: there is no policy here; allowed keys are ${policyKeys.join(', ')}`);
  }
  const { document, faults } = readPolicyDocument(text.value);
  if (document === undefined) throw failure(faults.map((fault) => describe(fault, text)));
  const problems: string[] = [];
  const imported =
    document.openapi === undefined ? undefined : importOpenApi(document, document.openapi, text, problems);
  const scopes = [...new Set([...(document.scopes ?? []), ...(imported?.scopes ?? [])])];
  const placed = [...rulesOf(document, text, scopes, problems), ...(imported?.rules ?? [])];
  problems.push(...conflictsIn(placed));
  if (problems.length > 0) throw failure(problems);
  return new Policy(
    document.default === 'allow-authenticated',
    scopes,
    placed.map(({ rule }) => rule),
  );
}

function rulesOf(
  document: PolicyDocument,
  text: PolicyText,
  declared: readonly string[],
  problems: string[],
): PlacedRule[] {
  return document.routes.map((route, index) => {
    const at = ['routes', index];
    const scopes = route.scope === undefined ? [] : typeof route.scope === 'string' ? [route.scope] : route.scope;
    for (const scope of scopes) {
      if (!declared.includes(scope))
        problems.push(describe({ path: [...at, 'scope'], message: undeclared(scope, declared) }, text));
    }
    const { methods, path: pattern, cost = 1, public: isPublic = false, onStoreOutage } = route;
    const outage = onStoreOutage === undefined ? {} : { onStoreOutage };
    const rule = { methods, pattern, scopes: [...new Set(scopes)], cost, public: isPublic, ...outage };
    return { rule, place: text.at([...at, 'path']) };
  });
}

function importOpenApi(
  document: PolicyDocument,
  path: string,
  text: PolicyText,
  problems: string[],
): { readonly scopes: readonly string[]; readonly rules: readonly PlacedRule[] } {
  let file: YamlFile;
  try {
    file = readYamlFile(besides(text.path, path));
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    problems.push(`${text.at(['openapi'])}: openapi: ${error.message}`);
    return { scopes: [], rules: [] };
  }
  const { routes, scopes, faults } = readOpenApi(file.value);
  problems.push(...faults.map((fault) => describe(fault, file)));
  const declared = new Set([...(document.scopes ?? []), ...scopes]);
  // Schemes other than oauth2 have no place to declare scopes: with no list anywhere, naming a scope declares it.
  const declaresByUse = declared.size === 0;
  for (const { rule, securityPath } of routes) {
    for (const scope of rule.scopes) {
      if (declaresByUse) declared.add(scope);
      else if (!declared.has(scope)) {
        problems.push(describe({ path: securityPath, message: undeclared(scope, [...declared]) }, file));
      }
    }
  }
  const rules = routes.map((route) => ({ rule: route.rule, place: file.at(route.path) }));
  return { scopes: [...declared], rules };
}

/** A path that a file names, relative to that file. */
function besides(file: string, path: string): string {
  return isAbsolute(path) ? path : join(dirname(file), path);
}

function undeclared(scope: string, declared: readonly string[]): string {
  const list = declared.length === 0 ? 'none is' : `declared are ${declared.join(', ')}`;
  return `the scope ${found(scope)} is not declared in scopes; ${list}`;
}

/** Routes that a request could not tell apart. */
function conflictsIn(placed: readonly PlacedRule[]): string[] {
  const conflicts: string[] = [];
  const taken = new Map<string, string>();
  for (const { rule, place } of placed) {
    for (const method of rule.methods) {
      const route = `${method} ${shapeOf(rule.pattern)}`;
      const earlier = taken.get(route);
      if (earlier === undefined) taken.set(route, place);
      else conflicts.push(`${place}: ${method} ${rule.pattern} is ruled twice: first at ${earlier}`);
    }
  }
  return conflicts;
}

function describe({ path, message }: Fault, text: PolicyText): string {
  const name = path.map(stepText).join('').replace(/^\./, '');
  return `${text.at(path)}: ${name === '' ? '' : `${name}: `}${message}`;
}

/** `.routes`, `[3]`, `["/orders"]`. */
function stepText(step: string | number): string {
  return typeof step === 'string' && /^[\w-]+$/.test(step) ? `.${step}` : `[${JSON.stringify(step)}]`;
}

function failure(problems: readonly string[]): OperatorError {
  const unique = [...new Set(problems)];
  if (unique.length === 1) return new OperatorError(unique[0] as string);
  return new OperatorError([`the policy has ${unique.length} problems:`, ...unique].join('\n'));
}

function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
