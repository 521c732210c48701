import type { z } from 'zod';
import { DraftError, type FieldFault } from './refusal.js';

/**
 * Checks an input of the CLI or the admin API against a schema.
 * @throws DraftError that names every field at fault and never repeats a value.
 */
export function parseInput<S extends z.ZodType>(schema: S, input: unknown): z.output<S> {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  throw new DraftError(result.error.issues.flatMap(faultsOf));
}

function faultsOf(issue: z.core.$ZodIssue): FieldFault[] {
  const field = issue.path.join('.');
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({ field: [...issue.path, key].join('.'), message: 'is not a known field' }));
  }
  return [{ field, message: messageOf(issue) }];
}

/** zod's own words where they read well behind a field's name, better ones where they do not. */
function messageOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_type') {
    if (issue.message.endsWith('received undefined')) return 'is required';
    return `must be ${typeNames[issue.expected] ?? issue.expected}`;
  }
  if (issue.code === 'too_small') return bound(issue.origin, 'at least', issue.minimum);
  if (issue.code === 'too_big') return bound(issue.origin, 'at most', issue.maximum);
  if (issue.code === 'invalid_value') return `must be ${issue.values.join(' or ')}`;
  if (issue.code === 'invalid_key') return `has a name that is not allowed: ${issue.issues[0]?.message ?? ''}`;
  return issue.message;
}

const typeNames: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
};

function bound(origin: string, side: string, count: number | bigint): string {
  if (origin === 'string') return `must have ${side} ${count} ${count === 1 ? 'character' : 'characters'}`;
  return origin === 'array' ? `must have ${side} ${count} items` : `must be ${side} ${count}`;
}
