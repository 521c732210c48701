/**
 * A bare uWebSockets.js server in a process of its own, answering every request the same: `echo` is the ceiling that
 * is measured, `upstream` stands behind every proxy. Usage: tsx answering-server.ts echo|upstream
 */
import { App, us_socket_local_port } from 'uWebSockets.js';
import { echoBody, upstreamBody } from './answers.js';

const isEcho = process.argv[2] === 'echo';
const body = isEcho ? echoBody : upstreamBody;
const contentType = isEcho ? 'text/plain' : 'application/json';

App()
  .any('/*', (res) => {
    res.writeHeader('Content-Type', contentType).end(body);
  })
  .listen('127.0.0.1', 0, (socket) => {
    if (socket === false) throw new Error('no port to listen on');
    const address = `127.0.0.1:${us_socket_local_port(socket)}`;
    console.log(JSON.stringify({ msg: 'listening', plane: 'data', address }));
  });
process.once('SIGTERM', () => process.exit(0));
