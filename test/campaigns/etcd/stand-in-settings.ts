/** What the stand-in is given. */
export const standInFaults = ['no-fencing', 'from-answer', 'any-release'] as const;

export interface StandInSettings {
  readonly socket: string;
  readonly endpoints: readonly string[];
  readonly leaseSeconds: number;
  readonly fault?: (typeof standInFaults)[number] | undefined;
}
