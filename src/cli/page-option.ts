/** `--page` and `--per-page` of the commands that list. */
import type { Command } from 'commander';
import { OperatorError } from '../core/failure.js';
import type { Page } from '../tenant/repository.js';
import { wholeNumber } from './limit-flags.js';

const perPageMax = 100;

export interface PageFlags {
  readonly page?: number;
  readonly perPage?: number;
}

export function addPageOptions(command: Command): Command {
  return command
    .option('--page <n>', 'page, from 1', wholeNumber)
    .option('--per-page <n>', `entries of a page, at most ${perPageMax}`, wholeNumber);
}

/** @throws OperatorError (exit code 2) for a page that cannot be. */
export function pageOf({ page = 1, perPage = perPageMax }: PageFlags): Page {
  if (page < 1) throw new OperatorError('--page counts from 1.', 2);
  if (perPage < 1 || perPage > perPageMax) throw new OperatorError(`--per-page is 1 to ${perPageMax}.`, 2);
  return { page, perPage };
}
