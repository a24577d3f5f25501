/**
 * A cache of strings that come again and again: the path of a lockspace with every request, a resource's name with its acquire and
 * its release. To find one by its bytes takes a third of the time of making and hashing it again.
 */

/** In bytes: a multiple of four, below 256. Longer strings are not kept. */
const MAX_LENGTH = 128;
const SLOTS = 256;

export class RecentStrings {
  private readonly texts = new Array<string>(SLOTS).fill('');
  private readonly lengths = new Uint8Array(SLOTS);
  /** The bytes of each text, in whole words, with any bytes behind its end. */
  private readonly words = new DataView(new ArrayBuffer(SLOTS * MAX_LENGTH));

  /** The text kept for the `length` bytes at `start`. They must be readable in whole words. */
  find(bytes: DataView, start: number, length: number): string | undefined {
    if (length > MAX_LENGTH) return undefined;
    const slot = slotOf(bytes, start, length);
    if (this.lengths[slot] !== length) return undefined;
    const { words } = this;
    const kept = slot * MAX_LENGTH;
    for (let at = 0; at < length; at += 4) {
      if (bytes.getInt32(start + at) !== words.getInt32(kept + at)) return undefined;
    }
    return this.texts[slot];
  }

  keep(bytes: DataView, start: number, length: number, text: string): void {
    if (length > MAX_LENGTH) return;
    const slot = slotOf(bytes, start, length);
    const { words } = this;
    const kept = slot * MAX_LENGTH;
    for (let at = 0; at < length; at += 4) words.setInt32(kept + at, bytes.getInt32(start + at));
    this.lengths[slot] = length;
    this.texts[slot] = text;
  }
}

function slotOf(bytes: DataView, start: number, length: number): number {
  let hash = length;
  for (let at = 0; at < length; at += 4) hash = Math.imul(hash ^ bytes.getInt32(start + at), 0x9e3779b1);
  return (hash >>> 16) % SLOTS;
}
