import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { adminClientFile, docsFolder, generatedPages, pageText } from '../../scripts/docs-pages.js';

test.each(generatedPages)('docs/$file says what the code does (else: npm run docs)', (page) => {
  expect(readFileSync(join(docsFolder, page.file), 'utf8')).toBe(pageText(page));
});

test('the client of the admin API is the one generated from its OpenAPI document (else: npm run docs)', () => {
  expect(readFileSync(adminClientFile.path, 'utf8')).toBe(adminClientFile.text);
});
