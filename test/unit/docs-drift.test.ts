import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { docsFolder, generatedPages, pageText } from '../../scripts/docs-pages.js';

test.each(generatedPages)('docs/$file says what the code does (else: npm run docs)', (page) => {
  expect(readFileSync(join(docsFolder, page.file), 'utf8')).toBe(pageText(page));
});
