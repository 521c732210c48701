import { setFlagsFromString } from 'node:v8';
import { runInThisContext } from 'node:vm';
import { expect, test } from 'vitest';
import { restoreStringMethods } from '../../../src/redis/string-methods.js';

setFlagsFromString('--allow-natives-syntax');
const isFast = runInThisContext('() => %HasFastProperties(String.prototype)') as () => boolean;

test('string methods are fast again after a class was derived from String, as ioredis does', async () => {
  await import('ioredis');
  class Derived extends String {}
  expect(new Derived('abc').length).toBe(3);
  expect(isFast(), 'V8 no longer slows strings down: string-methods.ts can go').toBe(false);
  restoreStringMethods();
  expect(isFast()).toBe(true);
});
