/**
 * Opens slow and malformed connections from a process of its own, so that whoever measures others is not slowed by it:
 * `hostile-client.ts PORT COUNT PER_SECOND`. Says `ready`, begins when it is told anything, and prints how many stood at
 * once when the server has closed the last of them.
 */
import { connect } from 'node:net';

const dripping = [
  'GET /files/a HTTP/1.1\r\nHost: x\r\nX-Slow: ',
  'GET /fil',
  'POST /files/a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n',
];
/** The last three are never answered by the HTTP binding: it drops them after a while. */
const malformed = [
  'GET / HTTP/1.1\r\n\r\n',
  'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n',
  'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  'GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n',
  '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
  'GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\n folded\r\n\r\n',
  'GET / HTTP/1.1\r\nHost: x\r\nBad Name: 1\r\n\r\n',
  'GET / HTTP/1.1\r\nHost : x\r\n\r\n',
];
const stepMs = 50;
const dripEveryMs = 4000;

const [port = 0, count = 0, perSecond = 0] = process.argv.slice(2).map(Number);
let opened = 0;
let open = 0;
let most = 0;

function begin(number: number): void {
  const isSlow = number % 2 === 0;
  const list = isSlow ? dripping : malformed;
  // Addresses of their own keep the ports from running out.
  const localAddress = `127.79.${1 + (number >> 8)}.${1 + (number & 127)}`;
  const socket = connect({ port, host: '127.0.0.1', localAddress });
  open += 1;
  const drip = isSlow ? setInterval(() => socket.write('x'), dripEveryMs) : undefined;
  socket.on('error', () => {});
  socket.on('data', () => {});
  socket.on('connect', () => {
    most = Math.max(most, open);
    socket.write(list[(number >> 1) % list.length] as string, 'latin1');
  });
  socket.on('close', () => {
    clearInterval(drip);
    open -= 1;
  });
}

function openAll(): void {
  const opening = setInterval(() => {
    for (let step = 0; step < (perSecond * stepMs) / 1000 && opened < count; step += 1) begin(opened++);
    if (opened < count || open > 0) return;
    clearInterval(opening);
    console.log(JSON.stringify({ opened, most }));
  }, stepMs);
}

process.stdin.once('data', () => {
  process.stdin.destroy();
  openAll();
});
console.log('ready');
