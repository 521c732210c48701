import fc from 'fast-check';
import { Command } from 'ioredis';
import { expect, test } from 'vitest';
import { EncodedCommand } from '../../../src/redis/encoded-command.js';

const anArgument = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.integer(),
  fc.uint8Array().map((bytes) => Buffer.from(bytes)),
);

test('the bytes on the wire are those of ioredis, whatever the arguments', () => {
  fc.assert(
    fc.property(fc.array(anArgument), (args) => {
      const own = new EncodedCommand('evalsha', [...args]).toWritable();
      expect(own).toEqual(Buffer.from(new Command('evalsha', [...args]).toWritable({})));
    }),
  );
});

test('a text is sent as UTF-8 and counted in bytes', () => {
  expect(new EncodedCommand('evalsha', ['é', 7, Buffer.from([255])]).toWritable()).toEqual(
    Buffer.concat([Buffer.from('*4\r\n$7\r\nevalsha\r\n$2\r\né\r\n$1\r\n7\r\n$1\r\n'), Buffer.from([255, 13, 10])]),
  );
});
