/** Why a change of a tenant or token was not made. The CLI prints the sentence; the admin API also needs the kind. */
import { OperatorError } from '../core/failure.js';

/** There is no such tenant or token (404). */
export class NotFoundError extends OperatorError {}

/** What is there stands against the change (409): exists already, no place left, revoked, being deleted. */
export class ConflictError extends OperatorError {}

/** Whoever asks is known but may not do this (403). */
export class ForbiddenError extends OperatorError {}

/** The record is not of the version that the change was made for (412): somebody else changed it. */
export class VersionConflictError extends OperatorError {}

/**
 * Refuses a change that was made for another version than `found`; undefined asks for none.
 * @throws VersionConflictError.
 */
export function requireVersion(subject: string, found: number, expected: number | undefined): void {
  if (expected === undefined || expected === found) return;
  throw new VersionConflictError(
    `${subject} is at version ${found} and the change was made for version ${expected}: read it again, then change it.`,
  );
}

/** This Tollkeeper lacks a setting that it takes (501). */
export class NotConfiguredError extends OperatorError {}

/** One field of an input and what is wrong with it; the text never repeats a secret. */
export interface FieldFault {
  /** Path of the field, `rateLimit.window`; '' for the input as a whole. */
  readonly field: string;
  readonly message: string;
}

/** The input is not allowed (400 or 422): every field at fault is named. */
export class DraftError extends OperatorError {
  readonly faults: readonly FieldFault[];

  constructor(faults: readonly FieldFault[]) {
    super(`${faults.map(({ field, message }) => (field === '' ? message : `${field}: ${message}`)).join('; ')}.`, 2);
    this.faults = faults;
  }
}
