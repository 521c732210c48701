/**
 * The policy document as people write it: one strict zod schema, and messages that say what was found, and what is
 * allowed. What needs more than one value to be judged (declared scopes, conflicts) is in load.ts.
 */
import { z } from 'zod';
import { normalisePath } from './path.js';
import { isParameter, outageModes, routeMethods, segmentsOf } from './routes.js';
import type { ValuePath } from './yaml-file.js';

/** Something wrong with a document, at a path in it. */
export interface Fault {
  readonly path: ValuePath;
  readonly message: string;
}

export const costMax = 1_000_000;

/** RFC 6749 section 3.3 `scope-token`, without the comma that separates scopes on the command line. */
const scopePattern = /^[\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]{1,128}$/;
const parameterPattern = /^\{[A-Za-z0-9_.-]+\}$/;

export const scopeRule = 'a scope is 1 to 128 visible ASCII characters without comma, " and \\';

/** Whether a text may be the name of a scope; see {@link scopeRule}. */
export function isScope(text: string): boolean {
  return scopePattern.test(text);
}

/** What was found, short enough for a message. */
export function found(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

function allowed(rule: string) {
  return { error: (issue: { input?: unknown }) => `${rule}; found ${found(issue.input)}` };
}

/** The error of a strict mapping: unknown keys are named with those that exist. */
function mapping(keys: readonly string[]) {
  return {
    error: (issue: { code?: string; keys?: string[]; input?: unknown }) =>
      issue.code === 'unrecognized_keys'
        ? `unknown key ${(issue.keys ?? []).map(found).join(', ')}; allowed keys are ${keys.join(', ')}`
        : `must be a mapping with the keys ${keys.join(', ')}; found ${found(issue.input)}`,
  };
}

const scope = z.string(allowed(scopeRule)).regex(scopePattern, allowed(scopeRule));
const scopeList = z.array(scope, allowed('must be a list of scopes'));
const method = z.enum(routeMethods, allowed(`allowed methods are ${routeMethods.join(', ')}`));

const routeKeys = ['methods', 'path', 'scope', 'cost', 'public', 'onStoreOutage'];
const routeSchema = z
  .strictObject(
    {
      methods: z
        .array(method, allowed(`must be a list of methods, such as [GET, HEAD]`))
        .min(1, { error: 'must list at least one method, such as [GET, HEAD]' })
        .refine(isWithoutRepeats, { error: 'names a method more than once' }),
      path: z
        .string(allowed('must be a path, such as "/orders/{id}"'))
        .superRefine((path, context) => addIssue(context, routePathFault(path))),
      /** All of them are needed; an empty list, or none at all, asks for a valid token of any scope. */
      scope: z.union([scope, scopeList], allowed('must be a scope or a list of scopes')).optional(),
      cost: z
        .int(allowed(`must be a whole number from 1 to ${costMax}`))
        .min(1, allowed(`must be a whole number from 1 to ${costMax}`))
        .max(costMax, allowed(`must be a whole number from 1 to ${costMax}`))
        .optional(),
      public: z.boolean(allowed('must be true or false')).optional(),
      onStoreOutage: z.enum(outageModes, allowed(`must be ${outageModes.join(' or ')}`)).optional(),
    },
    mapping(routeKeys),
  )
  .superRefine((route, context) => {
    if (route.public !== true) return;
    if (route.scope !== undefined)
      addIssue(context, 'a public route asks for no token: remove scope, or public', 'scope');
    if (route.cost !== undefined)
      addIssue(context, 'a public route is charged nothing: remove cost, or public', 'cost');
    if (route.onStoreOutage !== undefined)
      addIssue(context, 'a public route never asks Redis: remove onStoreOutage, or public', 'onStoreOutage');
  });

export const policyKeys = ['default', 'scopes', 'routes', 'openapi'];

const policyDocumentSchema = z.strictObject(
  {
    default: z.enum(['deny', 'allow-authenticated'], allowed('must be deny or allow-authenticated')).default('deny'),
    scopes: scopeList.refine(isWithoutRepeats, { error: 'declares a scope more than once' }).optional(),
    routes: z.array(routeSchema, allowed('must be a list of routes')).default([]),
    openapi: z
      .string(allowed('must be the path of an OpenAPI 3 file'))
      .min(1, { error: 'must not be empty' })
      .optional(),
  },
  mapping(policyKeys),
);

export type PolicyDocument = z.output<typeof policyDocumentSchema>;

function addIssue(context: z.core.$RefinementCtx, message: string, key?: string): void {
  if (message === '') return;
  context.addIssue(key === undefined ? { code: 'custom', message } : { code: 'custom', message, path: [key] });
}

function isWithoutRepeats(items: readonly string[]): boolean {
  return new Set(items).size === items.length;
}

/** Reads a document by the schema: the document, or everything that is wrong with its form. */
export function readPolicyDocument(value: unknown): { readonly document?: PolicyDocument; readonly faults: Fault[] } {
  const result = policyDocumentSchema.safeParse(value);
  if (result.success) return { document: result.data, faults: [] };
  return { faults: result.error.issues.flatMap(faultsOf) };
}

function faultsOf(issue: z.core.$ZodIssue): Fault[] {
  const path = issue.path as (string | number)[];
  if (issue.code === 'unrecognized_keys') {
    return [{ path: [...path, issue.keys[0] as string], message: issue.message }];
  }
  // A union reports one list for each alternative; the one that got furthest knows best what is wrong.
  if (issue.code === 'invalid_union') {
    const deepest = issue.errors.flat().find((inner) => inner.path.length > 0 || inner.code === 'invalid_format');
    if (deepest !== undefined) {
      return [{ path: [...path, ...(deepest.path as (string | number)[])], message: deepest.message }];
    }
  }
  return [{ path, message: issue.message }];
}

/**
 * What keeps a path from being the pattern of a route, '' when nothing does: it must be what
 * {@link normalisePath} leaves alone, with `{name}` for whole segments.
 */
export function routePathFault(path: string): string {
  if (!path.startsWith('/')) return `must begin with a slash; found ${found(path)}`;
  if (path !== '/' && path.endsWith('/')) {
    return `must not end with a slash: write ${found(path.replace(/\/+$/, '') || '/')}`;
  }
  if (/[?#]/.test(path)) return `must be a path without query and fragment; found ${found(path)}`;
  const names = new Set<string>();
  for (const segment of segmentsOf(path)) {
    const fault = segmentFault(segment);
    if (fault !== '') return fault;
    if (!isParameter(segment)) continue;
    if (names.has(segment)) return `names the parameter ${segment} twice`;
    names.add(segment);
  }
  return '';
}

function segmentFault(segment: string): string {
  if (segment === '') return 'must not hold an empty segment (//)';
  if (parameterPattern.test(segment)) return '';
  if (/[{}]/.test(segment)) {
    return `a parameter is one whole segment, {name} with letters, digits, _ . and -; found ${found(segment)}`;
  }
  if (segment.includes('*'))
    return `there are no wildcards: name each path, with {name} for a segment; found ${found(segment)}`;
  if (segment.startsWith(':')) return `a parameter is written {${segment.slice(1)}}; found ${found(segment)}`;
  const normal = normalisePath(`/${segment}`);
  if (normal === `/${segment}`) return '';
  const written = normal === '' ? normalisePath(`/${escapeRaw(segment)}`) : normal;
  if (written !== '') {
    return `requests are matched in their normal form: write ${found(written.slice(1))} instead of ${found(segment)}`;
  }
  return `no request path may hold ${found(segment)}: dot segments, ; \\ and encoded slashes are always refused`;
}

/** A segment typed as plain text, with its escapes; unchanged when it holds some already. */
function escapeRaw(segment: string): string {
  return segment.includes('%') ? segment : encodeURI(Buffer.from(segment).toString());
}
