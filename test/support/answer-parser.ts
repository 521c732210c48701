/** Drives the upstream's response parser over given bytes, in given pieces, and tells what it made of them. */
import { parsed, ResponseParser } from '../../src/upstream/response-parser.js';

export interface ParsedAnswer {
  /** `open`: more would have to come, and the connection's end would cut it. */
  readonly verdict: 'complete' | 'invalid' | 'open';
  readonly status: number;
  /** End-to-end fields, flat name, value. */
  readonly fields: readonly string[];
  readonly body: Buffer;
  /** Bytes behind the answer. */
  readonly rest: Buffer;
  /** The head says that the connection ends with the answer, or only its end tells the answer's. */
  readonly closes: boolean;
}

export interface ParseOptions {
  /** The answer to a HEAD request. */
  readonly toHead?: boolean;
  /** Offsets at which a new read begins. */
  readonly splits?: readonly number[];
  /** The connection ends in order after the bytes. */
  readonly ends?: boolean;
}

/** `bytes`: Latin-1 when a text. */
export function parseAnswer(bytes: Buffer | string, options: ParseOptions = {}): ParsedAnswer {
  const all = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes, 'latin1');
  const parser = new ResponseParser();
  parser.begin(options.toHead === true);
  const starts = [0, ...(options.splits ?? []).filter((at) => at > 0 && at < all.length)];
  const body: Buffer[] = [];
  // As on a connection: one memory for all reads, so that nothing may be kept of an earlier one.
  const memory = Buffer.alloc(all.length);
  let headSeen = false;
  const result = (verdict: ParsedAnswer['verdict'], rest = Buffer.alloc(0)): ParsedAnswer => ({
    verdict,
    status: headSeen ? parser.head.status : 0,
    fields: headSeen ? parser.head.fields : [],
    body: Buffer.concat(body),
    rest,
    closes: headSeen && (parser.head.closes || parser.endsWithConnection),
  });
  for (const [index, start] of starts.entries()) {
    const end = starts[index + 1] ?? all.length;
    memory.fill(0);
    const length = all.copy(memory, 0, start, end);
    parser.at = 0;
    for (let found = parser.next(memory, length); found !== parsed.more; found = parser.next(memory, length)) {
      if (found === parsed.invalid) return result('invalid');
      if (found === parsed.end) return result('complete', Buffer.from(all.subarray(start + parser.at)));
      if (found === parsed.head) headSeen = true;
      if (found === parsed.piece) body.push(Buffer.from(memory.subarray(parser.from, parser.at)));
    }
  }
  const open = result('open');
  return options.ends === true && headSeen && parser.finish() ? { ...open, verdict: 'complete' } : open;
}
