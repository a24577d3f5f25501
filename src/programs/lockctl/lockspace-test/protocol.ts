/**
 * What the two sides of `lockspace test` say to each other, over the standard input and output of the one that touches the storage. A line is
 * a message, of words with a blank between them. The first line of the side is {@link GREETING}. It then answers each request:
 *
 *     enter DIRECTORY          ok HOST BOOT DEVICE TYPE SOURCE POINT OPTIONS NETWORK
 *     create NAME              ok FILE        makes a file that did not exist, and opens it
 *     open NAME                ok FILE
 *     lock FILE KIND TYPE      ok             locks byte 0, without waiting; TYPE is read, write or none
 *     take FILE KIND           ok STATE       locks byte 0 exclusively as the daemon does, which looks at the file's name: a TakenState
 *     find FILE KIND           ok FOUND       1: the kernel reports a lock that is in the way of an exclusive one; 0: it reports none
 *     close FILE               ok
 *     remove NAME              ok
 *     clear                    ok             closes and removes every file that it has made or opened
 *     die                      no answer: the process is killed
 *
 * or with `error CODE`. Words that may have any bytes are in base64. At the end of its input, a side clears as well.
 */
export const GREETING = 'virt-lockctl lockspace test 1';

/** No other file is ever opened or removed. */
export const TEST_FILE = /^\.virt-lockctl-test-[0-9a-f]{16}$/;

/** As {@link Addon.lockNamed} returns it; BUSY is no result of it. */
export const TakenState = { HELD: 0, RENAMED: 1, UNLINKED: 2, BUSY: 3 } as const;
export type TakenState = (typeof TakenState)[keyof typeof TakenState];

/** Where a side's directory is. */
export interface Place {
  readonly host: string;
  /** Of the running kernel: of two sides on one machine it is the same. */
  readonly boot: string;
  /** Of the file system: two directories with the same one, on one machine, are one mount to the kernel. */
  readonly device: string;
  readonly type: string;
  readonly source: string;
  readonly point: string;
  readonly options: string;
  /** The side's network namespace; empty: not known, as from a release before this word. */
  readonly network: string;
}

export const wrap = (text: string): string => Buffer.from(text, 'latin1').toString('base64');
export const unwrap = (word: string): string => Buffer.from(word, 'base64').toString('latin1');
