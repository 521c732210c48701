import { createHash } from 'node:crypto';
import { inspect } from 'node:util';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { OperatorError } from '../../../src/core/failure.js';
import { openSecret, parseMasterKeys, sealingKeyId, sealSecret } from '../../../src/credential/sealed-secret.js';

const secret = 'tk_test_Vector000001_NotASecretOnlyForTestVectors00013x9fYD';
const id = 'Vector000001';
const keyOf = (seed: string): Buffer => createHash('sha256').update(seed).digest();
const base64Of = (seed: string): string => keyOf(seed).toString('base64');
const keys = parseMasterKeys(base64Of('one'));

/** The refusal of a list of keys. */
function refusal(text: string): OperatorError {
  try {
    parseMasterKeys(text);
  } catch (error) {
    if (error instanceof OperatorError) return error;
    throw error;
  }
  throw new Error('was not refused');
}

describe('a sealed secret', () => {
  test('opens for its token under its key, whatever the secret holds', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 200 }), (text) => {
        expect(openSecret(sealSecret(text, id, keys), id, keys)).toEqual({ secret: text });
      }),
    );
  });

  test('is v1, key id, a 96-bit nonce and the ciphertext with its tag', () => {
    const [version, keyId, nonce, sealed, ...rest] = sealSecret(secret, id, keys).split('.');
    expect([version, keyId, rest]).toEqual(['v1', keys.sealing.id, []]);
    expect(Buffer.from(nonce as string, 'base64url')).toHaveLength(12);
    expect(Buffer.from(sealed as string, 'base64url')).toHaveLength(Buffer.byteLength(secret) + 16);
    expect(sealingKeyId(sealSecret(secret, id, keys))).toBe(keys.sealing.id);
  });

  test('has a fresh nonce each time', () => {
    const nonces = Array.from({ length: 2000 }, () => sealSecret(secret, id, keys).split('.')[2]);
    expect(new Set(nonces).size).toBe(2000);
  });

  test('never contains any eight characters of the plaintext, plain or encoded', () => {
    const encodings = ['utf8', 'hex', 'base64', 'base64url'] as const;
    fc.assert(
      fc.property(fc.stringMatching(/^[0-9A-Za-z]{38}$/), (rest) => {
        const plaintext = `tk_live_${id}_${rest}`;
        const sealed = sealSecret(plaintext, id, keys);
        const decoded = sealed.split('.').map((part) => Buffer.from(part, 'base64url').toString('latin1'));
        for (const encoding of encodings) {
          for (let at = 0; at + 8 <= plaintext.length; at++) {
            const piece = Buffer.from(plaintext.slice(at, at + 8))
              .toString(encoding)
              .replace(/=+$/, '')
              .slice(0, -1);
            if ([sealed, ...decoded].some((text) => text.includes(piece))) return false;
          }
        }
        return true;
      }),
    );
  });

  test('does not open for another token: `tampered`', () => {
    fc.assert(
      fc.property(fc.string(), (otherId) => {
        fc.pre(otherId !== id);
        expect(openSecret(sealSecret(secret, id, keys), otherId, keys).failure).toBe('tampered');
      }),
    );
  });

  test('does not open under another key of the same id: `tampered`', () => {
    const sealed = sealSecret(secret, id, parseMasterKeys(`main:${base64Of('one')}`));
    expect(openSecret(sealed, id, parseMasterKeys(`main:${base64Of('two')}`)).failure).toBe('tampered');
  });

  test('does not open without its key: `unknown-key`, which is told from tampering', () => {
    const sealed = sealSecret(secret, id, keys);
    expect(openSecret(sealed, id, parseMasterKeys(base64Of('two'))).failure).toBe('unknown-key');
  });

  test('does not open when any character of it differs, is missing or comes twice', () => {
    const sealed = sealSecret(secret, id, keys);
    const unit = fc.constantFrom(
      ...'0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.=+/ \n\u0100'.split(''),
    );
    fc.assert(
      fc.property(fc.nat(sealed.length - 1), unit, fc.nat(2), (at, character, how) => {
        fc.pre(sealed[at] !== character);
        const before = sealed.slice(0, at);
        const spoiled = [
          before + character + sealed.slice(at + 1),
          before + character + sealed.slice(at),
          before + sealed.slice(at + 1),
        ][how] as string;
        const opened = openSecret(spoiled, id, keys);
        expect(opened.secret).toBeUndefined();
        expect(['malformed', 'unknown-key', 'tampered']).toContain(opened.failure);
      }),
      { numRuns: 1000 },
    );
  });

  test('does not open with a shortened tag', () => {
    const [version, keyId, nonce, sealed] = sealSecret('', id, keys).split('.') as [string, string, string, string];
    const tag = Buffer.from(sealed, 'base64url');
    for (let length = 0; length < 16; length++) {
      const short = [version, keyId, nonce, tag.subarray(0, length).toString('base64url')].join('.');
      expect(openSecret(short, id, keys).failure).toBe('malformed');
    }
  });

  test('of any other text is malformed and never an exception', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(openSecret(text, id, keys).secret).toBeUndefined();
      }),
    );
    expect(openSecret(sealSecret(secret, id, keys).replace('v1.', 'v2.'), id, keys).failure).toBe('malformed');
    expect(openSecret(`${sealSecret(secret, id, keys)}.AA`, id, keys).failure).toBe('malformed');
    expect(sealingKeyId('')).toBe('');
    expect(sealingKeyId('v2.main.a.b')).toBe('');
  });

  test('says what to do when it does not open, and nothing secret', () => {
    const sealed = sealSecret(secret, id, keys);
    const failures = [
      openSecret(sealed, 'Vector000002', keys),
      openSecret(sealed, id, parseMasterKeys(base64Of('two'))),
      openSecret('v1', id, keys),
    ];
    for (const { failure, message } of failures) {
      expect(failure).toBeDefined();
      expect(message).toMatch(/rotate the token/);
      expect(message).not.toContain(sealed.split('.')[3]);
      expect(message).not.toContain('NotASecret');
    }
  });
});

describe('master keys', () => {
  test('are base64, base64url or hex, and the same key has the same id in each', () => {
    const key = keyOf('one');
    const spellings = [
      key.toString('base64'),
      key.toString('base64url'),
      key.toString('hex'),
      key.toString('hex').toUpperCase(),
    ];
    const ids = spellings.map((text) => parseMasterKeys(` ${text} `).sealing.id);
    expect(new Set(ids)).toEqual(new Set([keys.sealing.id]));
    expect(keys.sealing.id).toMatch(/^[0-9a-f]{8}$/);
  });

  test('rotate: the first seals, each of them opens', () => {
    const sealedBefore = sealSecret(secret, id, keys);
    const both = parseMasterKeys(`2027:${base64Of('two')}, ${base64Of('one')}`);
    expect(openSecret(sealedBefore, id, both)).toEqual({ secret });
    const sealedNow = sealSecret(secret, id, both);
    expect(sealingKeyId(sealedNow)).toBe('2027');
    expect(openSecret(sealedNow, id, both)).toEqual({ secret });
    expect(openSecret(sealedNow, id, keys).failure).toBe('unknown-key');
    expect([...both.byId.keys()]).toEqual(['2027', keys.sealing.id]);
  });

  test.each([
    ['an empty list', '', 1],
    ['a comma at the end', `${base64Of('one')},`, 2],
    ['16 bytes', keyOf('one').subarray(0, 16).toString('base64'), 1],
    ['31 bytes', keyOf('one').subarray(0, 31).toString('base64'), 1],
    ['33 bytes', Buffer.alloc(33, 'k').toString('base64'), 1],
    ['hex one digit short', keyOf('one').toString('hex').slice(1), 1],
    ['a passphrase', 'correct horse battery staple', 1],
    ['an empty id', `:${base64Of('one')}`, 1],
    ['an id with a dot', `a.b:${base64Of('one')}`, 1],
    ['an id that is too long', `${'a'.repeat(33)}:${base64Of('one')}`, 1],
    ['an id twice', `a:${base64Of('one')},a:${base64Of('two')}`, 2],
    ['a key twice', `${base64Of('one')},${base64Of('one')}`, 2],
    ['a bad second key', `${base64Of('one')},${base64Of('two').slice(1)}`, 2],
  ])('with %s are refused with the place of the entry and without its text', (_, text, position) => {
    const { message, exitCode } = refusal(text);
    expect(exitCode).toBe(2);
    expect(message).toContain(`Key ${position} of TOLLKEEPER_MASTER_KEY`);
    for (let at = 0; at + 8 <= text.length; at++) expect(message).not.toContain(text.slice(at, at + 8));
  });

  test('of any text are read or refused in words, never otherwise', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'aF0:,+/-_= '.split('')) }), (text) => {
        expect(refusal(text)).toBeInstanceOf(OperatorError);
      }),
    );
  });

  test('show themselves neither to inspection nor to JSON', () => {
    const shown = inspect(keys, { depth: 9, showHidden: true }) + JSON.stringify([keys, [...keys.byId]]);
    expect(shown).not.toContain(base64Of('one').slice(0, 12));
    expect(shown).not.toContain(keyOf('one').toString('hex').slice(0, 12));
  });
});
