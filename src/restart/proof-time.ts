/** How long a program may take to prove that it can go on. The daemon serves during that, and whoever asks for a swap waits for it. */
export interface ProofTime {
  /** For doing nothing, in milliseconds: on storage that does not answer, by a defect. */
  readonly limit: number;
  /** For all, in milliseconds, while the program is at work: on a busy machine or an emulated one it needs many seconds. */
  readonly longest: number;
}

/** For a small document; more for a large one. */
export const PROOF_TIME: ProofTime = { limit: 10_000, longest: 60_000 };
