/** A token for people. */
import type { TokenView } from '../token/token.js';
import type { CliContext } from './context.js';
import { limitText } from './limit-text.js';
import { type Cell, printFields, printJson } from './output.js';

export const tokenColumns: readonly string[] = [
  'id',
  'name',
  'mode',
  'state',
  'scopes',
  'limit',
  'expires',
  'last used',
];

export function tokenRow(view: TokenView): readonly Cell[] {
  const { id, name, mode, state, scopes, rateLimit, expiresAt, lastUsedAt } = view;
  return [id, name, mode, state, scopes, limitText(rateLimit), expiresAt ?? 'never', lastUsedAt ?? 'never'];
}

/** Prints one token, as JSON or with a line for each of its fields. */
export function printToken(context: CliContext, view: TokenView, json: boolean): void {
  if (json) return printJson(context, view);
  printFields(context, {
    id: view.id,
    tenant: view.tenant,
    name: view.name,
    description: view.description,
    mode: view.foreign ? `${view.mode} (imported)` : view.mode,
    state: view.state,
    scopes: view.scopes,
    limits: [view.rateLimit, ...view.limits].map(limitText),
    quota: view.quota && limitText(view.quota),
    expires: view.expiresAt ?? 'never',
    subject: view.subject,
    'allowed from': view.allowedIps.length === 0 ? 'anywhere' : view.allowedIps,
    metadata: Object.entries(view.metadata).map(([key, value]) => `${key}=${value}`),
    leased: view.lease ? 'while it is hot' : 'no',
    created: view.createdAt,
    rotated: view.rotatedAt ?? 'never',
    'old secret until': view.previousUntil,
    'last used': view.lastUsedAt ?? 'never',
    version: view.version,
  });
}
