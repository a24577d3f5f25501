/** Two transcripts as one list of lines. */

export interface Line {
  /** `-` was expected and not seen, `+` was seen and not expected. */
  readonly mark: ' ' | '-' | '+';
  readonly text: string;
}

/** The fewest changes from the expected lines to the seen ones. */
export function differences(expected: readonly string[], seen: readonly string[]): Line[] {
  // At (i, j): the length of the longest common subsequence from expected[i] and seen[j] on.
  const common = Array.from({ length: expected.length + 1 }, () => new Uint32Array(seen.length + 1));
  const at = (i: number, j: number): number => common[i]?.[j] ?? 0;
  for (let i = expected.length - 1; i >= 0; i--) {
    const row = common[i] ?? new Uint32Array();
    for (let j = seen.length - 1; j >= 0; j--) {
      row[j] = expected[i] === seen[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const lines: Line[] = [];
  let i = 0;
  let j = 0;
  while (i < expected.length || j < seen.length) {
    const wanted = expected[i];
    const got = seen[j];
    if (wanted !== undefined && wanted === got) {
      lines.push({ mark: ' ', text: wanted });
      i++;
      j++;
    } else if (wanted !== undefined && (got === undefined || at(i + 1, j) >= at(i, j + 1))) {
      lines.push({ mark: '-', text: wanted });
      i++;
    } else {
      lines.push({ mark: '+', text: got ?? '' });
      j++;
    }
  }
  return lines;
}
