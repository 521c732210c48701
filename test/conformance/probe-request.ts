/** A probe's bytes: placeholders filled in, requests signed as the probe asks. */
import { createHash, createHmac } from 'node:crypto';

/** One probe of http_probes.json. */
export interface Probe {
  readonly id: string;
  readonly category: string;
  /** The request, Latin-1, with `{{PLACEHOLDERS}}`. */
  readonly raw: string;
  readonly expect: {
    /** Allowed statuses of the first final answer; 0 is a close without an answer. */
    readonly status: readonly number[];
    readonly must_not: readonly string[];
  };
  readonly why: string;
  readonly source: string;
  /** Byte offsets, after expansion, at which the bytes are sent in separate writes. */
  readonly split_at?: readonly number[];
  /** Send this often, one connection each, and judge the last. */
  readonly repeat?: number;
}

/** What the placeholders stand for. */
export interface ProbeValues {
  readonly host: string;
  /** Plaintext of a Bearer token. */
  readonly token: string;
  readonly tokenId: string;
  readonly hmacId: string;
  /** Plaintext of the HMAC token: the key of the signature. */
  readonly hmacSecret: string;
  readonly nowS: number;
}

/** The bytes to send, as a Latin-1 string. */
export function expandProbe(raw: string, values: ProbeValues): string {
  const plain = raw.replaceAll(
    /\{\{(HOST|TOKEN|TOKEN_ID|HMAC_ID|TS|TS[+-]\d+|REPEAT:[^:}]*:\d+)\}\}/g,
    (_, name: string) => valueOf(name, values),
  );
  // Signatures come last: they cover the request as it will be sent.
  const signed = plain.replaceAll(
    /\{\{(SIGU?)((?::(?:method|target|body)=[^}:]*)*)\}\}/g,
    (_, kind: string, parts: string) => {
      const signature = sign(plain, parts, values.hmacSecret);
      return kind === 'SIGU' ? signature.toUpperCase() : signature;
    },
  );
  const left = /\{\{[A-Z_]+[^}]*\}\}/.exec(signed);
  if (left !== null) throw new Error(`unknown placeholder ${left[0]}`);
  return signed;
}

function valueOf(name: string, values: ProbeValues): string {
  if (name.startsWith('REPEAT:')) {
    const [, text = '', count = '0'] = name.split(':');
    return text.repeat(Number(count));
  }
  if (name.startsWith('TS')) return String(values.nowS + Number(name.slice(2)));
  const named: Readonly<Record<string, string>> = {
    HOST: values.host,
    TOKEN: values.token,
    TOKEN_ID: values.tokenId,
    HMAC_ID: values.hmacId,
  };
  return named[name] as string;
}

/** Lower-case hex signature over the request in `bytes`; `:method=..:target=..:body=<hex>` replace a part. */
function sign(bytes: string, replaced: string, secret: string): string {
  const parts = new Map(
    replaced
      .split(':')
      .filter((part) => part !== '')
      .map((part) => [part.slice(0, part.indexOf('=')), part.slice(part.indexOf('=') + 1)] as const),
  );
  const headEnd = bytes.indexOf('\r\n\r\n');
  const head = bytes.slice(0, headEnd);
  const [method = '', target = ''] = head.slice(0, head.indexOf('\r\n')).split(' ');
  const timestamp = /^X-Tollkeeper-Timestamp: *(.*)$/im.exec(head)?.[1]?.trim() ?? '';
  const bodyHex = parts.get('body');
  const body = bodyHex === undefined ? Buffer.from(bytes.slice(headEnd + 4), 'latin1') : Buffer.from(bodyHex, 'hex');
  const lines = [
    parts.get('method') ?? method,
    parts.get('target') ?? target,
    timestamp,
    createHash('sha256').update(body).digest('hex'),
  ];
  return createHmac('sha256', secret).update(lines.join('\n'), 'latin1').digest('hex');
}
