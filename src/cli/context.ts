/** What every command gets: its environment and its two outputs. Nothing in src/cli touches `process` otherwise. */
import type { Command } from 'commander';

export interface CliContext {
  readonly env: NodeJS.ProcessEnv;
  /** Writes one line to standard output: results, nothing else. */
  readonly out: (line: string) => void;
  /** Writes one line to standard error: everything said to a person. */
  readonly err: (line: string) => void;
  /** Shows how far a long work is, in the last line of the terminal; '' takes it away. Absent without a terminal. */
  readonly status?: (text: string) => void;
}

/** One file in src/cli registers one command (with its subcommands). */
export type RegisterCommand = (program: Command, context: CliContext) => void;
