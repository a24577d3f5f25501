/** The data in the page, from page.ts for its script. */

/** A line as it was seen and, of a message, its meaning in words. */
export type Line = readonly [text: string, meaning?: string];

export interface ShownFailure {
  readonly name: string;
  readonly promise: string;
  /** Of the reason; undefined: unexplained. */
  readonly id: string | undefined;
  /** Two sides beside each other: equal lines in one row, the shorter side of a changed block filled up with empty lines. */
  readonly lines: readonly (readonly [expected: Line, seen: Line])[] | undefined;
  readonly detail: string | undefined;
  readonly seen: readonly string[] | undefined;
}

export interface ShownCheck {
  readonly name: string;
  readonly promise: string;
  readonly verdict: string;
  readonly detail: string | undefined;
}

export interface ShownCell {
  readonly row: string;
  readonly column: string;
  readonly title: string;
  readonly colour: string;
  readonly passed: number;
  readonly ids: readonly string[];
  readonly broken: string | undefined;
  readonly sides: readonly string[];
  readonly failures: readonly ShownFailure[];
  readonly others: readonly ShownCheck[];
}

export interface ShownReason {
  readonly id: string;
  readonly kind: string;
  readonly text: string;
}

export interface Family {
  readonly name: string;
  readonly columns: readonly { readonly column: string; readonly title: string }[];
}

export interface PageData {
  readonly families: readonly Family[];
  readonly rows: readonly { readonly row: string; readonly title: string }[];
  readonly reasons: readonly ShownReason[];
  readonly cells: readonly ShownCell[];
}
