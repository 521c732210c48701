/**
 * The one door to uWebSockets.js: checks the native binary before it is loaded and hands out what the listener needs.
 *
 * The npm package repacks the project's own binaries; a binary whose SHA-256 is not one of these stops the start.
 * The official package (a build argument of the Dockerfile) has the same exports under `default`; it is known by its
 * layout (binaries beside the entry), and its binaries are pinned by the commit it is installed from.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type {
  App,
  HttpRequest,
  HttpResponse,
  SSLApp,
  us_listen_socket_close,
  us_socket_local_port,
} from 'uWebSockets.js';
import { OperatorError } from '../core/failure.js';

export type { HttpRequest, HttpResponse };
export type HttpApp = ReturnType<typeof App>;

export interface HttpBinding {
  readonly App: typeof App;
  readonly SSLApp: typeof SSLApp;
  readonly us_listen_socket_close: typeof us_listen_socket_close;
  readonly us_socket_local_port: typeof us_socket_local_port;
  readonly LIBUS_LISTEN_EXCLUSIVE_PORT: number;
  readonly _cfg: (key: string) => void;
}

/** uws-pack 20.0.8 (uWebSockets 20.48/20.49), Node 20 (ABI 115) and 22 (ABI 127). */
const pinnedBinaries = new Map([
  ['uws_linux_x64_115.node', '6f8d96d761a64beddb060f1f7f0e617dd293ed127ec1d57507aa561a0083171e'],
  ['uws_linux_x64_127.node', '8cabc918bbf9a07323e54f89a33882491080b2eb35df0607f473ccdb1f3c31af'],
  ['uws_linux_arm64_115.node', 'c0e29fc143b46b584f3debec7910014ec228198fc1f17aaeacd1de7991bd3769'],
  ['uws_linux_arm64_127.node', 'd4c4f8b2c28c5f6544b49e36d91b0beee238a5b90a07904a947f77061c8b814d'],
  ['uws_darwin_x64_115.node', '1f2a5c73d9dc3066d39b675b73f2c50eddbc4f270d292a6126ddfe3757c54cf9'],
  ['uws_darwin_x64_127.node', 'afd992dc1ca1e33cdc7ce0c72a60baf236e590a257fcecbbbce7bc1a35451387'],
  ['uws_darwin_arm64_115.node', '5d523bccbe80d3d8fa59422ff81801b8179212b9a8a5da28bff6926a95a65701'],
  ['uws_darwin_arm64_127.node', 'abbeea53d48e21c01808203e9f9835728f2cea720d2e5b154837ee3045b513be'],
]);

/** Switches off the `uWebSockets` response header (a name the binding gives this setting, not a secret). */
const noServerMark = '999999990007';

/**
 * Loads the binding after its binary was found to be the pinned one.
 * @throws OperatorError for an unsupported platform or a binary that is not the pinned one.
 */
export async function loadBinding(): Promise<HttpBinding> {
  checkBinary();
  const loaded = (await import('uWebSockets.js')) as unknown as HttpBinding & { default?: HttpBinding };
  const binding = loaded.App === undefined && loaded.default !== undefined ? loaded.default : loaded;
  binding._cfg(noServerMark);
  return binding;
}

function checkBinary(): void {
  const folder = path.dirname(fileURLToPath(import.meta.resolve('uWebSockets.js')));
  const name = `uws_${process.platform}_${process.arch}_${process.versions.modules}.node`;
  if (existsSync(path.join(folder, name))) return;
  const file = path.join(folder, 'bin', name);
  if (!existsSync(file)) {
    throw new OperatorError(
      `uWebSockets.js has no binary for this platform (${name}): use Node 20 or 22 on Linux with glibc or macOS.`,
    );
  }
  const expected = pinnedBinaries.get(name);
  const found = createHash('sha256').update(readFileSync(file)).digest('hex');
  if (found !== expected) {
    throw new OperatorError(
      `The binary ${name} of uWebSockets.js is not the pinned one (SHA-256 ${found}): reinstall with npm ci.`,
    );
  }
}
