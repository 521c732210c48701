/**
 * A failure that a person can mend: the message is one plain sentence that says what to do and holds no secret.
 * The CLI prints it without a stack and exits with `exitCode`; everything else that is thrown is a bug.
 */
export class OperatorError extends Error {
  override readonly name = 'OperatorError';
  /** 1: the command failed; 2: wrong usage. */
  readonly exitCode: 1 | 2;

  constructor(message: string, exitCode: 1 | 2 = 1, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
  }
}
