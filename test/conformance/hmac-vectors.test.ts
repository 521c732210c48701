/**
 * The published vectors (docs/hmac-vectors.json), run through the verifier, the signing module and the code printed in
 * docs/hmac.md: what is tested is the text that people copy.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import {
  canonicalString,
  isNonce,
  isSignatureHex,
  isTokenId,
  parseTimestamp,
  signatureMatches,
} from '../../src/credential/hmac.js';
import { signRequest } from '../../src/sign/sign.js';
import { parseToken } from '../../src/token/format.js';
import { findExecutable } from '../support/process.js';

interface Vector {
  readonly name: string;
  readonly description: string;
  readonly secret: string;
  readonly tokenId: string;
  readonly method: string;
  readonly target: string;
  readonly timestamp: string;
  readonly nonce: string;
  readonly bodyBase64: string;
  readonly bodySha256: string;
  readonly canonicalString: string;
  readonly signature: string;
}

const docs = new URL('../../docs/', import.meta.url);
const guide = readFileSync(new URL('hmac.md', docs), 'utf8');
const { vectors } = JSON.parse(readFileSync(new URL('hmac-vectors.json', docs), 'utf8')) as { vectors: Vector[] };

const folder = mkdtempSync(join(tmpdir(), 'tollkeeper-vectors-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const bodyOf = (vector: Vector): Buffer => Buffer.from(vector.bodyBase64, 'base64');

/** The headers that every implementation must make of a vector, in a fixed order. */
function expectedHeaders(vector: Vector): Record<string, string> {
  return {
    'X-Tollkeeper-Token': vector.tokenId,
    'X-Tollkeeper-Timestamp': vector.timestamp,
    ...(vector.nonce === '' ? {} : { 'X-Tollkeeper-Nonce': vector.nonce }),
    'X-Tollkeeper-Signature': vector.signature,
  };
}

/** The first code block of a language in the guide. */
function printedCode(language: string): string {
  const code = new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'm').exec(guide)?.[1];
  if (code === undefined) throw new Error(`docs/hmac.md has no ${language} block`);
  return code;
}

/** `describe` for a program; without the program the tests are skipped, and standard error says so. */
function describeWith(programs: readonly string[], title: string, tests: () => void): void {
  const missing = programs.filter((program) => findExecutable(program) === undefined);
  if (missing.length > 0) {
    process.stderr.write(`\n!!! SKIPPED: HMAC vectors in ${title}: not installed: ${missing.join(', ')}\n\n`);
  }
  describe.skipIf(missing.length > 0)(title, tests);
}

/** Runs a program that reads all vectors from standard input and prints one JSON object of headers a line. */
function headersFrom(program: string, args: readonly string[], env = process.env): Record<string, string>[] {
  const { status, stdout, stderr } = spawnSync(program, args, {
    input: JSON.stringify(vectors),
    encoding: 'utf8',
    env,
  });
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, string>);
}

describe('the vectors', () => {
  test('are at least twelve, each of its own, and cover nonce, query, empty, binary and UTF-8', () => {
    expect(vectors.length).toBeGreaterThanOrEqual(12);
    expect(new Set(vectors.map(({ name }) => name)).size).toBe(vectors.length);
    expect(new Set(vectors.map(({ signature }) => signature)).size).toBe(vectors.length);
    expect(vectors.some(({ nonce }) => nonce !== '')).toBe(true);
    expect(vectors.some(({ target }) => target.includes('?'))).toBe(true);
    expect(vectors.some(({ bodyBase64 }) => bodyBase64 === '')).toBe(true);
    expect(vectors.some((vector) => bodyOf(vector).includes(0))).toBe(true);
    expect(vectors.some(({ target }) => target.includes('%C3%A9'))).toBe(true);
    expect(vectors.some(({ secret }) => Buffer.byteLength(secret) > 64)).toBe(true);
  });

  test('have secrets that are whole tokens with the id beside them', () => {
    for (const { secret, tokenId } of vectors) {
      expect(parseToken(secret, secret.slice(0, -52))).toEqual({ id: tokenId });
    }
  });

  test('agree with what the guide prints of the first', () => {
    const first = vectors[0] as Vector;
    expect(guide).toContain(first.secret);
    expect(guide).toContain(first.canonicalString.replaceAll('\n', '\\n'));
    expect(guide).toContain(first.signature);
  });
});

describe.each(vectors)('$name', (vector) => {
  test('is accepted by the verifier', () => {
    const { method, target, timestamp, nonce, bodySha256, signature, secret } = vector;
    expect(createHash('sha256').update(bodyOf(vector)).digest('hex')).toBe(bodySha256);
    expect(canonicalString(method, target, timestamp, nonce, bodySha256)).toBe(vector.canonicalString);
    expect(isTokenId(vector.tokenId)).toBe(true);
    expect(parseTimestamp(timestamp)).toBe(Number(timestamp));
    expect(nonce === '' || isNonce(nonce)).toBe(true);
    expect(isSignatureHex(signature)).toBe(true);
    expect(signatureMatches(secret, method, target, timestamp, nonce, bodySha256, signature)).toBe(true);
  });

  test('is what the signing module makes', () => {
    const signed = signRequest({
      secret: vector.secret,
      method: vector.method,
      url: vector.target,
      body: bodyOf(vector),
      timestamp: Number(vector.timestamp),
      nonce: vector.nonce,
    });
    expect(signed).toEqual({ headers: expectedHeaders(vector), canonicalString: vector.canonicalString });
  });
});

describeWith(['bash', 'openssl'], 'bash and openssl', () => {
  test('the printed function makes the headers of every vector', () => {
    const script = join(folder, 'sign.sh');
    writeFileSync(script, `set -eu\n${printedCode('bash')}\ntollkeeper_sign "$1" "$2" "$3" "$4"\n`);
    for (const [index, vector] of vectors.entries()) {
      const bodyFile = join(folder, `body-${index}`);
      writeFileSync(bodyFile, bodyOf(vector));
      const { status, stdout, stderr } = spawnSync(
        'bash',
        [script, vector.method, vector.target, bodyFile, vector.nonce],
        {
          encoding: 'utf8',
          env: { ...process.env, TK_SECRET: vector.secret, TK_TIMESTAMP: vector.timestamp },
        },
      );
      const lines = Object.entries(expectedHeaders(vector)).map(([name, value]) => `${name}: ${value}\n`);
      expect({ name: vector.name, status, stdout, stderr }).toEqual({
        name: vector.name,
        status: 0,
        stdout: lines.join(''),
        stderr: '',
      });
    }
  });
});

describeWith(['python3'], 'Python', () => {
  test('the printed function makes the headers of every vector', () => {
    const driver = `
import base64, json, sys
for v in json.load(sys.stdin):
    headers = tollkeeper_sign(v["secret"], v["method"], v["target"], base64.b64decode(v["bodyBase64"]), v["nonce"], v["timestamp"])
    print(json.dumps(headers))
`;
    const script = join(folder, 'sign.py');
    writeFileSync(script, printedCode('python') + driver);
    expect(headersFrom('python3', [script])).toEqual(vectors.map(expectedHeaders));
  });
});

// Not among what the set-up installs: its packages take 450 MB.
describeWith(['go'], 'Go (apt-get install golang-go)', () => {
  test('the printed function makes the headers of every vector', () => {
    const driver = `
func main() {
	var vectors []struct{ Secret, Method, Target, BodyBase64, Nonce, Timestamp string }
	if err := json.NewDecoder(os.Stdin).Decode(&vectors); err != nil {
		panic(err)
	}
	for _, v := range vectors {
		body, _ := base64.StdEncoding.DecodeString(v.BodyBase64)
		seconds, _ := strconv.ParseInt(v.Timestamp, 10, 64)
		json.NewEncoder(os.Stdout).Encode(Sign(v.Secret, v.Method, v.Target, body, v.Nonce, time.Unix(seconds, 0)))
	}
}
`;
    const script = join(folder, 'sign.go');
    const head = 'package main\n\nimport (\n\t"encoding/base64"\n\t"encoding/json"\n\t"os"\n)\n\n';
    writeFileSync(script, head + printedCode('go') + driver);
    const env = { ...process.env, GOCACHE: join(folder, 'go-cache'), GO111MODULE: 'off', GOTOOLCHAIN: 'local' };
    expect(headersFrom('go', ['run', script], env)).toEqual(vectors.map(expectedHeaders));
  });
});

describeWith(['php'], 'PHP (apt-get install php-cli)', () => {
  test('the printed function makes the headers of every vector', () => {
    const driver = `
foreach (json_decode(stream_get_contents(STDIN), true) as $v) {
    $headers = tollkeeper_sign($v['secret'], $v['method'], $v['target'], base64_decode($v['bodyBase64']), $v['nonce'], $v['timestamp']);
    echo json_encode($headers), "\\n";
}
`;
    const script = join(folder, 'sign.php');
    writeFileSync(script, printedCode('php') + driver);
    expect(headersFrom('php', ['-d', 'display_errors=stderr', script])).toEqual(vectors.map(expectedHeaders));
  });
});
