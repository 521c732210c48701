/**
 * Writes the generated pages of docs/ and files of examples/ (`npm run docs`). With `--check` it writes nothing, names
 * the files that differ from the code and ends with 1.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { adminClientFile, docsFolder, generatedPages, pageText } from './docs-pages.js';
import { exampleFiles, examplesFolder } from './example-files.js';

const checkOnly = process.argv.includes('--check');

for (const page of generatedPages) settle(`docs/${page.file}`, join(docsFolder, page.file), pageText(page));
settle('test/support/admin-client.d.ts', adminClientFile.path, adminClientFile.text);
for (const { path, text } of exampleFiles()) settle(`examples/${path}`, join(examplesFolder, path), text);

function settle(name: string, path: string, text: string): void {
  if (readOrEmpty(path) === text) return;
  if (checkOnly) {
    console.error(`${name} is not what the code says: run npm run docs`);
    process.exitCode = 1;
  } else {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    console.log(`${name} written`);
  }
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
