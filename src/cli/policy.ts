/** `tollkeeper policy check FILE`: is this policy right, and what does it say about a request? Needs no Redis. */
import type { Command } from 'commander';
import { OperatorError } from '../core/failure.js';
import { loadPolicy } from '../policy/load.js';
import { normalisePath, queryAllowed } from '../policy/path.js';
import { type Policy, type Route, routeMethods } from '../policy/routes.js';
import type { CliContext } from './context.js';
import { addJsonOption, printable, printJson, printTable } from './output.js';

interface CheckOptions {
  readonly json?: boolean;
  readonly explain?: string;
}

/** What the policy says about one request; `outcome` is `route`, `any-token` or the slug of the refusal. */
interface Explanation {
  readonly method: string;
  /** The normal form that is matched and sent upstream; '' when the path is refused. */
  readonly path: string;
  readonly outcome: 'route' | 'any-token' | 'malformed-request' | 'method-not-allowed' | 'route-not-allowed';
  readonly route: Route | null;
  /** Methods the path has, when this one is not among them. */
  readonly allow: string;
}

export function registerPolicy(program: Command, context: CliContext): void {
  const policy = program.command('policy').description('the policy: what each route needs');
  addJsonOption(
    policy
      .command('check')
      .description('check a policy file and list its routes; exit code 1 when something is wrong')
      .argument('<file>', 'policy file, or a configuration file with policy: in it')
      .option('--explain <request>', 'say what the policy asks for a request, such as "GET /orders/7"'),
  ).action((file: string, options: CheckOptions) => check(file, options, context));
}

function check(file: string, options: CheckOptions, context: CliContext): void {
  const policy = loadPolicy({ kind: 'file', path: file });
  const explanation = options.explain === undefined ? undefined : explain(policy, options.explain);
  if (options.json === true) {
    printJson(context, {
      file,
      default: defaultOf(policy),
      scopes: policy.scopes,
      routes: policy.rules.map(({ pattern, ...rule }) => ({ path: pattern, ...rule })),
      ...(explanation === undefined ? {} : { explanation }),
    });
  } else if (explanation === undefined) {
    context.out(`${printable(file)} is sound: ${policy.rules.length} routes, default ${defaultOf(policy)}.`);
    printTable(
      context,
      ['methods', 'path', 'needs', 'cost'],
      policy.rules.map((rule) => [rule.methods, rule.pattern, needsOf(rule), rule.public ? 0 : rule.cost]),
      'No routes.',
    );
  } else {
    context.out(sentenceOf(explanation));
  }
}

function defaultOf(policy: Policy): string {
  return policy.defaultAllow ? 'allow-authenticated' : 'deny';
}

function needsOf(route: Route): string {
  if (route.public) return 'nothing (public)';
  return route.scopes.length === 0 ? 'any valid token' : route.scopes.join(' and ');
}

function explain(policy: Policy, request: string): Explanation {
  const space = request.indexOf(' ');
  const method = request.slice(0, Math.max(0, space));
  const target = request.slice(space + 1).trim();
  if (!/^[A-Za-z]+$/.test(method) || target === '') {
    throw new OperatorError('--explain needs a method and a path, such as --explain "GET /orders/7"', 2);
  }
  const query = target.indexOf('?');
  const path = normalisePath(query === -1 ? target : target.slice(0, query));
  const about = { method, path, route: null, allow: '' } as const;
  if (path === '' || (query !== -1 && !queryAllowed(target.slice(query + 1)))) {
    return { ...about, outcome: 'malformed-request' };
  }
  if (!(routeMethods as readonly string[]).includes(method)) {
    return { ...about, outcome: 'method-not-allowed', allow: routeMethods.join(', ') };
  }
  const route = policy.match(method, path);
  if (route !== undefined) {
    const { pattern, scopes, cost, public: isPublic } = route;
    return { ...about, outcome: 'route', route: { pattern, scopes, cost, public: isPublic } };
  }
  const allow = policy.allowedMethods(path);
  if (allow !== '') return { ...about, outcome: 'method-not-allowed', allow };
  return { ...about, outcome: policy.defaultAllow ? 'any-token' : 'route-not-allowed' };
}

function sentenceOf({ method, path, outcome, route, allow }: Explanation): string {
  const request = printable(`${method} ${path}`);
  switch (outcome) {
    case 'route': {
      const { pattern, cost, public: isPublic } = route as Route;
      return `${request} is route ${pattern}: needs ${needsOf(route as Route)}, costs ${isPublic ? 0 : cost}.`;
    }
    case 'any-token':
      return `${request} matches no route; the default lets any valid token pass.`;
    case 'method-not-allowed':
      return `${request} is refused with 405 method-not-allowed; allowed: ${allow}.`;
    case 'route-not-allowed':
      return `${request} matches no route and is refused with 403 route-not-allowed.`;
    case 'malformed-request':
      return 'This request is refused with 400 malformed-request: its path or query holds what is never passed on.';
  }
}
