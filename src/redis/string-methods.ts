/**
 * Makes the methods of strings fast again after ioredis was loaded.
 *
 * ioredis 6 derives a class from String (resp/verbatim-string.js). V8 then moves `String.prototype` into a form in which
 * no method is known when code is compiled: from then on every `charCodeAt`, `slice` or `startsWith` in the whole process
 * is looked up each time it runs (seen with Node 20.20: 5% of the CPU time of a request in `Builtins_LoadIC`, parsing a
 * token takes three times as long). V8 lays a prototype out anew when a look-up that it profiles finds nothing along it.
 */

/** V8 profiles a function from about its eighth call on. */
const lookUps = 100;
const probe = Object('') as Readonly<Record<string, unknown>>;

function lookUp(text: Readonly<Record<string, unknown>>): unknown {
  return text['tollkeeperHasNoSuchMethod'];
}

/** Costs a microsecond; call it once all modules are loaded. Changes nothing but speed. */
export function restoreStringMethods(): void {
  for (let each = 0; each < lookUps; each++) lookUp(probe);
}
