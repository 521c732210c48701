/**
 * Writes the generated pages of docs/ (`npm run docs`). With `--check` it writes nothing, names the pages that differ
 * from the code and ends with 1.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { docsFolder, generatedPages, pageText } from './docs-pages.js';

const checkOnly = process.argv.includes('--check');

for (const page of generatedPages) {
  const path = join(docsFolder, page.file);
  const text = pageText(page);
  if (readOrEmpty(path) === text) continue;
  if (checkOnly) {
    console.error(`docs/${page.file} is not what the code says: run npm run docs`);
    process.exitCode = 1;
  } else {
    writeFileSync(path, text);
    console.log(`docs/${page.file} written`);
  }
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
