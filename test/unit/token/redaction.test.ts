import { describe, expect, test } from 'vitest';
import { drawPlaintext } from '../../../src/token/format.js';
import { TokenRedaction } from '../../../src/token/redaction.js';

describe('a token in what is logged', () => {
  const redaction = new TokenRedaction('opt_live');
  const token = drawPlaintext('opt_live', 'abcdefABCDEF');

  test('loses its secret and keeps its id, as often as it is there', () => {
    expect(redaction.redact(`/a/${token}/b?t=${token}&u=1`)).toBe(
      '/a/opt_live_abcdefABCDEF_[redacted]/b?t=opt_live_abcdefABCDEF_[redacted]&u=1',
    );
    expect(redaction.redact(token.slice(0, -10))).toBe('opt_live_abcdefABCDEF_[redacted]');
  });

  test('and nothing else is changed', () => {
    for (const text of ['', '/files/a', 'opt_live', 'opt_live_', 'opt_live_short_x', 'tk_live_abcdefABCDEF_secret']) {
      expect(redaction.redact(text)).toBe(text);
    }
  });
});
