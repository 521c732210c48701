/** docs/admin-api.md, made of the OpenAPI document: what is sent to each route and what it answers. */
import type { OpenApiDocument } from './admin-document.js';
import { table } from './markdown.js';

interface Schema {
  readonly type?: string | readonly string[];
  readonly $ref?: string;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly Schema[];
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly required?: readonly string[];
  readonly default?: unknown;
  readonly description?: string;
  readonly minimum?: number;
  readonly maximum?: number;
}

interface Media {
  readonly content?: Readonly<Record<string, { readonly schema: Schema }>>;
  readonly description?: string;
}

interface Operation {
  readonly operationId: string;
  readonly tags: readonly string[];
  readonly summary: string;
  readonly description?: string;
  readonly security?: readonly unknown[];
  readonly parameters?: readonly {
    readonly in: string;
    readonly name: string;
    readonly schema: Schema;
    readonly description?: string;
  }[];
  readonly requestBody?: Media;
  readonly responses: Readonly<Record<string, Media>>;
}

const opening = [
  '# Admin API',
  '',
  'JSON over HTTP on the admin listener (`TOLLKEEPER_ADMIN_LISTEN`), described by `/openapi.json` (OpenAPI 3.1), from which',
  'clients can be generated, and readable at `/docs`.',
  '',
  '```sh',
  'curl -H "Authorization: Bearer $TOLLKEEPER_ADMIN_KEY" http://127.0.0.1:9090/v1/tenants',
  '```',
  '',
  '- **Credential**: `Authorization: Bearer` with `TOLLKEEPER_ADMIN_KEY` or a personal admin key, or the cookie of a session.',
  '  A token of the data plane opens nothing here. Operators may do everything, an owner what concerns its tenant; another',
  '  tenant is 404 to it.',
  '- **Errors** are `application/problem+json`; see [problems](problems.md). 422 names each field in `errors`. Unknown fields',
  '  are refused.',
  '- **Lists** take `page` (from 1) and `per_page` (at most 100, default 25) and answer `{data, meta}`.',
  '- **Lost updates**: an answer with a `version` has it as `ETag`; a PATCH with `If-Match` is 412 when somebody else was',
  '  faster.',
  '- **Repeats**: a POST with an `Idempotency-Key` runs once in 24 hours and is answered again as the first time, with',
  '  `Idempotent-Replayed: true` ([ADR 13](adr/0013-idempotency.md)).',
  '- **Sessions** (`POST /v1/login`) end after 30 minutes without a request and 12 hours after the login, both configurable;',
  '  every change needs the header `X-Tollkeeper-Request: 1` and the own origin. Revoking, deleting, revealing, changing a',
  '  user and making a key ask for the password again in `X-Confirm-Password`, unless the login is less than five minutes',
  '  old ([ADR 11](adr/0011-confirmation-and-roles.md)). Guessing is limited ([ADR 12](adr/0012-login-limits.md)).',
  '- **Every change** is in the audit log ([ADR 10](adr/0010-audit.md)).',
  '- **Bodies** are JSON of up to 64 KiB. Requests are limited by principal (`TOLLKEEPER_ADMIN_REQUESTS_PER_MINUTE`).',
  '- **CORS** is off, and the Host header must be one that no stranger can own.',
];

/** The page, without its last line break. */
export function adminPage(document: OpenApiDocument): string {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      path,
      method: method.toUpperCase(),
      operation: operation as unknown as Operation,
    })),
  );
  const tags = [...new Set(operations.flatMap(({ operation }) => operation.tags))];
  const sections = tags.map((tag) => {
    const parts = operations
      .filter(({ operation }) => operation.tags.includes(tag))
      .map(({ method, path, operation }) => operationText(method, path, operation));
    return [`## ${tag}`, ...parts].join('\n\n');
  });
  const shapes = Object.entries(document.components.schemas).map(
    ([name, schema]) => `### ${name}\n\n${fieldTable(schema as Schema)}`,
  );
  return [opening.join('\n'), ...sections, '## Shapes', ...shapes].join('\n\n');
}

function operationText(method: string, path: string, operation: Operation): string {
  const { parameters = [], requestBody, responses } = operation;
  const asked = parameters.filter((parameter) => parameter.in !== 'path');
  const body = requestBody?.content?.['application/json']?.schema;
  const [status, answer] = Object.entries(responses).find(([code]) => code !== 'default') ?? ['', {}];
  const [[media, shown] = ['', undefined]] = Object.entries(answer.content ?? {});
  const answered = shown === undefined ? '' : `, ${typeText(shown.schema)}`;
  return [
    `### ${method} ${path}`,
    `${operation.summary}.${operation.description === undefined ? '' : ` ${operation.description}`}`,
    ...(asked.length === 0
      ? []
      : [
          table(
            ['parameter', 'in', 'type', 'meaning'],
            asked.map(({ name, in: place, schema, description }) => [
              `\`${name}\``,
              place,
              typeText(schema),
              description ?? schema.description ?? '',
            ]),
          ),
        ]),
    ...(body === undefined ? [] : [fieldTable(body)]),
    `Answers ${status}${answered}${media === 'application/json' || media === '' ? '' : ` (\`${media}\`)`}: ${answer.description ?? ''}.`,
  ].join('\n\n');
}

function fieldTable(schema: Schema): string {
  const required = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties ?? {});
  if (fields.length === 0) return 'No fields.';
  return table(
    ['field', 'type', 'required', 'meaning'],
    fields.map(([name, field]) => [
      `\`${name}\``,
      typeText(field),
      required.has(name) ? 'yes' : field.default === undefined ? 'no' : `no, \`${JSON.stringify(field.default)}\``,
      field.description ?? '',
    ]),
  );
}

function typeText(schema: Schema): string {
  if (schema.$ref !== undefined) {
    const name = schema.$ref.replace('#/components/schemas/', '');
    return `[${name}](#${name.toLowerCase()})`;
  }
  if (schema.enum !== undefined) return schema.enum.map((value) => `\`${String(value)}\``).join(', ');
  if (schema.anyOf !== undefined) return schema.anyOf.map(typeText).join(' or ');
  if (schema.type === 'array') return `list of ${typeText(schema.items ?? {})}`;
  if (schema.type === 'object') return objectText(schema);
  const type = Array.isArray(schema.type) ? schema.type.join(' or ') : String(schema.type ?? 'any');
  const { minimum, maximum } = schema;
  const bounded = minimum !== undefined && maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER;
  return bounded ? `${type}, ${minimum} to ${maximum}` : type;
}

function objectText({ properties, additionalProperties }: Schema): string {
  if (properties !== undefined) {
    return `{${Object.entries(properties)
      .map(([name, field]) => `${name}: ${typeText(field)}`)
      .join('; ')}}`;
  }
  return typeof additionalProperties === 'object' ? `object of ${typeText(additionalProperties)}` : 'object';
}
