import { setFlagsFromString } from 'node:v8';
import { runInThisContext } from 'node:vm';
import { expect, test } from 'vitest';
import { restoreStringMethods } from '../../../src/redis/string-methods.js';

setFlagsFromString('--allow-natives-syntax');
const isFast = runInThisContext('() => %HasFastProperties(String.prototype)') as () => boolean;

test('string methods are fast after a class was derived from String, as ioredis does', async () => {
  await import('ioredis');
  class Derived extends String {}
  // What V8 does now it does most of the time: whether the methods were slow in between is not told.
  expect(new Derived('abc').length).toBe(3);
  restoreStringMethods();
  expect(isFast()).toBe(true);
});
