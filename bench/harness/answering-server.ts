/**
 * A bare uWebSockets.js server in a process of its own: `echo` is the ceiling that is measured and answers every request
 * the same; `upstream` stands behind every proxy, and knows large bodies too. Usage: tsx answering-server.ts echo|upstream
 */
import { App, type HttpResponse, type TemplatedApp, us_socket_local_port } from 'uWebSockets.js';
import { echoBody, pagePath, uploadAnswer, uploadPath, upstreamBody } from './answers.js';
import { patternBlock } from './pattern.js';

const block = patternBlock();

function echo(app: TemplatedApp): void {
  app.any('/*', (res) => {
    res.writeHeader('Content-Type', 'text/plain').end(echoBody);
  });
}

function upstream(app: TemplatedApp): void {
  app.get(pagePath, (res) => answer(res, 'application/octet-stream', block));
  app.post(uploadPath, (res) => {
    let bytes = 0;
    let isAsSent = true;
    res.onAborted(() => {});
    res.onData((chunk, isLast) => {
      const piece = Buffer.from(chunk);
      isAsSent &&= piece.compare(block, bytes, bytes + piece.length) === 0;
      bytes += piece.length;
      if (isLast) answer(res, 'application/json', isAsSent ? uploadAnswer(bytes) : '{"asSent":false}');
    });
  });
  app.post('/*', (res) => {
    res.onAborted(() => {});
    res.onData((_chunk, isLast) => {
      if (isLast) answer(res, 'application/json', upstreamBody);
    });
  });
  app.any('/*', (res) => answer(res, 'application/json', upstreamBody));
}

function answer(res: HttpResponse, contentType: string, body: string | Buffer): void {
  res.cork(() => {
    res.writeHeader('Content-Type', contentType).end(body);
  });
}

const app = App();
if (process.argv[2] === 'echo') echo(app);
else upstream(app);
app.listen('127.0.0.1', 0, (socket) => {
  if (socket === false) throw new Error('no port to listen on');
  const address = `127.0.0.1:${us_socket_local_port(socket)}`;
  console.log(JSON.stringify({ msg: 'listening', plane: 'data', address }));
});
process.once('SIGTERM', () => process.exit(0));
