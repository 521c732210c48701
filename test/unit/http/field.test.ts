import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hasFoldableName, isFieldName, isFieldValue, parseConnectionOptions } from '../../../src/http/field.js';

describe('isFieldValue', () => {
  it('passes visible ASCII, space and tab, and nothing else', () => {
    for (let code = 0; code < 0x180; code++) {
      const expected = code === 9 || (code >= 0x20 && code <= 0x7e);
      expect([code, isFieldValue(`a${String.fromCharCode(code)}b`)]).toEqual([code, expected]);
    }
    expect(isFieldValue('')).toBe(true);
    expect(isFieldValue('\ufffd')).toBe(false);
  });
});

describe('isFieldName', () => {
  it('passes RFC 9110 tokens and nothing else', () => {
    for (let code = 0; code < 0x180; code++) {
      const character = String.fromCharCode(code);
      expect([code, isFieldName(character)]).toEqual([code, /^[!#$%&'*+\-.^_`|~0-9A-Za-z]$/.test(character)]);
    }
    expect(isFieldName('')).toBe(false);
  });
});

describe('hasFoldableName', () => {
  it('sees an underscore or a dot anywhere', () => {
    expect(['x_a', '_', 'a.b', 'x-a', ''].map(hasFoldableName)).toEqual([true, true, true, false, false]);
  });
});

describe('parseConnectionOptions', () => {
  it.each([
    ['', []],
    ['close', ['close']],
    ['keep-alive', ['keep-alive']],
    ['Close', ['close']],
    ['close, x', ['close', 'x']],
    ['Upgrade,\tHTTP2-Settings ', ['upgrade', 'http2-settings']],
    [', ,x-a,', ['x-a']],
    ['a b, c', ['c']],
    ['@@', []],
  ])('reads %j', (value, options) => expect(parseConnectionOptions(value)).toEqual(options));

  it('reads back every list of tokens', () => {
    const token = fc.stringMatching(/^[a-z0-9-]{1,12}$/);
    fc.assert(
      fc.property(fc.array(token), (tokens) => {
        expect(parseConnectionOptions(tokens.join(' , '))).toEqual(tokens);
      }),
    );
  });
});
