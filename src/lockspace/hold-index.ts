/**
 * Finds an owner's holds among very many on one resource, and removes one after the other without moving all that follow each time: what is
 * removed leaves its place empty for a while. A place is an index into the list of holds while it has empty places.
 */
import type { Hold } from './owner.ts';

/** Fewer holds are searched, and moved. */
export const MIN_INDEXED = 64;
/** So many places may be empty, and no more than half of all. */
const MAX_EMPTY = 4096;

/** An owner's places. */
interface OwnPlaces {
  /** In ascending order; also those that are empty by now. */
  readonly places: number[];
  /** How many are empty at the beginning. */
  first: number;
}

export class HoldIndex {
  private readonly byPid = new Map<number, OwnPlaces>();
  /** In ascending order. */
  private readonly empty: number[] = [];

  constructor(holds: readonly Hold[]) {
    for (const [place, hold] of holds.entries()) this.add(hold, place);
  }

  add({ owner }: Hold, place: number): void {
    const own = this.byPid.get(owner.pid);
    if (own === undefined) this.byPid.set(owner.pid, { places: [place], first: 0 });
    else own.places.push(place);
  }

  /** The first place of a hold of the owner that meets the condition, or -1. */
  find(pid: number, isMet: (place: number) => boolean): number {
    const own = this.byPid.get(pid);
    if (own === undefined) return -1;
    for (let index = own.first; index < own.places.length; index++) {
      const place = own.places[index] ?? -1;
      if (!this.isEmpty(place) && isMet(place)) return place;
    }
    return -1;
  }

  /** Empties the place of a hold of the owner, and returns the index that it had among those that were left. */
  remove(pid: number, place: number): number {
    const own = this.byPid.get(pid);
    if (own?.places[own.first] === place) own.first++;
    const before = this.emptyBefore(place);
    this.empty.splice(before, 0, place);
    return place - before;
  }

  private isEmpty(place: number): boolean {
    return this.empty[this.emptyBefore(place)] === place;
  }

  get emptyCount(): number {
    return this.empty.length;
  }

  get hasEmpty(): boolean {
    return this.emptyCount > 0;
  }

  /** Whether the empty places should go, of so many places. */
  isDue(count: number): boolean {
    return this.emptyCount >= Math.min(MAX_EMPTY, count / 2);
  }

  /** Takes the empty places out of the list. */
  compact(holds: Hold[]): void {
    let next = 0;
    let stay = 0;
    for (const [place, hold] of holds.entries()) {
      if (this.empty[next] === place) next++;
      else holds[stay++] = hold;
    }
    holds.length = stay;
  }

  private emptyBefore(place: number): number {
    let [low, high] = [0, this.empty.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.empty[middle] ?? place) < place) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
