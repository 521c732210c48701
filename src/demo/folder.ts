/** The folder of a demo: made part by part, since `mkdir` with `recursive` never returns below /proc. */
import { accessSync, constants, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { OperatorError } from '../core/failure.js';

/**
 * Makes a folder (only its owner may enter) and those above it.
 * @throws OperatorError when one cannot be made or written to.
 */
export function makeFolder(directory: string): void {
  try {
    makeParts(directory);
    accessSync(directory, constants.W_OK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new OperatorError(`Cannot write to ${directory} (${code ?? 'unknown reason'}): choose another with --dir.`);
  }
}

function makeParts(directory: string): void {
  try {
    mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    // /proc answers ENOENT for a name that cannot be made there, and for the parent nothing more can be done either.
    if (code !== 'ENOENT' || dirname(directory) === directory) throw error;
    makeParts(dirname(directory));
    mkdirSync(directory, { mode: 0o700 });
  }
}
