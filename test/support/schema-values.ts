/** Values for property tests, made of a JSON Schema of the OpenAPI document: some fit, most nearly do. */
import * as fc from 'fast-check';

type Schema = Readonly<Record<string, unknown>>;

/** `schema` with its references to named shapes replaced by these. */
export function resolve(schema: unknown, document: { readonly components: { readonly schemas: object } }): Schema {
  return replaced(schema, document.components.schemas as Readonly<Record<string, unknown>>) as Schema;
}

function replaced(value: unknown, named: Readonly<Record<string, unknown>>): unknown {
  if (Array.isArray(value)) return value.map((item) => replaced(item, named));
  if (typeof value !== 'object' || value === null) return value;
  const { $ref } = value as { readonly $ref?: string };
  if ($ref !== undefined) return replaced(named[$ref.replace('#/components/schemas/', '')], named);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, replaced(item, named)]));
}

/** Anything that JSON can say, hostile spellings and numbers among it. */
const anything = fc.oneof(
  fc.constantFrom<unknown>(null, true, '', '__proto__', -0, 1e308, Number.MAX_SAFE_INTEGER, [], {}, [[[[]]]]),
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.jsonValue({ maxDepth: 3 }),
);

/** A value in the shape of the schema, of which any part may be anything instead. */
export function arbitraryOf(schema: Schema): fc.Arbitrary<unknown> {
  return fc.oneof({ weight: 6, arbitrary: fitting(schema) }, { weight: 1, arbitrary: anything });
}

function fitting(schema: Schema): fc.Arbitrary<unknown> {
  const { type, anyOf, enum: values, properties = {}, items, minimum = 0, maximum = 1e9 } = schema;
  if (Array.isArray(anyOf)) return fc.oneof(...(anyOf as Schema[]).map(arbitraryOf));
  if (Array.isArray(values)) return fc.constantFrom(...(values as unknown[]));
  if (type === 'object') {
    const fields = Object.entries(properties as Record<string, Schema>).map(
      ([name, field]) => [name, arbitraryOf(field)] as const,
    );
    const extra = fc.dictionary(fc.constantFrom('x', 'toString', 'constructor'), anything, { maxKeys: 1 });
    return fc
      .tuple(fc.record(Object.fromEntries(fields), { requiredKeys: [] }), fc.option(extra, { freq: 8 }))
      .map(([known, more]) => ({ ...known, ...more }));
  }
  if (type === 'array') return fc.array(arbitraryOf((items ?? {}) as Schema), { maxLength: 4 });
  if (type === 'integer' || type === 'number') {
    return fc.integer({ min: Number(minimum), max: Math.max(Number(minimum), Math.min(Number(maximum), 2 ** 31 - 1)) });
  }
  if (type === 'boolean') return fc.boolean();
  const text = typeof schema.pattern === 'string' ? pattern(schema.pattern) : undefined;
  return fc.oneof(...(text === undefined ? [] : [text]), fc.string({ maxLength: 40 }));
}

function pattern(source: string): fc.Arbitrary<string> | undefined {
  try {
    return fc.stringMatching(new RegExp(source), { maxLength: 60 });
  } catch {
    // fast-check does not know every class (\P{Cc}).
    return undefined;
  }
}
