/** Stands for your API: answers every request with what it got, identity headers included. */
import { createServer } from 'node:http';

const server = createServer((request, response) => {
  request.resume();
  request.on('end', () => {
    const { method, url, headers } = request;
    response.writeHead(200, { 'Content-Type': 'application/json' });
    response.end(`${JSON.stringify({ method, url, headers }, null, 2)}\n`);
  });
});
server.listen(Number(process.env.PORT ?? 3000), process.env.HOST ?? '0.0.0.0', () => {
  console.log(`listening on ${server.address().port}`);
});
