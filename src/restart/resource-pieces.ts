/**
 * The text of resources, which a restart needs twice: for the proof, while clients are served, and for the successor, while they wait.
 * There may be a hundred thousand, so the second time only those are described that have changed.
 */
import type { Daemon } from '../daemon/daemon.ts';
import { fileChanges } from '../lockspace/files.ts';
import type { Lockspace, Resource } from '../lockspace/lockspaces.ts';

/** How many resources are described in one piece. */
const SIZE = 64;

interface Piece {
  readonly resources: readonly Resource[];
  readonly text: Buffer;
  readonly descriptors: ReadonlySet<number>;
}

export class ResourcePieces {
  private readonly daemon: Daemon;
  /** The resources that have changed since the first description began. */
  private readonly changed: ReadonlySet<Resource>;
  private pieces = new Map<Lockspace, readonly Piece[]>();
  /** Whatever else the descriptions depend on, before the first of them. */
  private readonly surroundings: string;

  constructor(daemon: Daemon) {
    this.daemon = daemon;
    this.changed = daemon.lockspaces.noteChanges();
    // Not later: an end may begin during the first description.
    this.surroundings = this.readSurroundings();
  }

  end(): void {
    this.daemon.lockspaces.forgetChanges();
  }

  /**
   * The texts of a lockspace's resources, each with a comma before it; iterating adds their descriptors.
   *
   * @param describe writes a resource, and adds its descriptors
   */
  of(
    lockspace: Lockspace,
    describe: (resource: Resource, descriptors: Set<number>) => string,
  ): (descriptors: Set<number>) => Generator<Buffer> {
    return (descriptors) => this.texts(lockspace, describe, descriptors);
  }

  private *texts(
    lockspace: Lockspace,
    describe: (resource: Resource, descriptors: Set<number>) => string,
    descriptors: Set<number>,
  ): Generator<Buffer> {
    const known = this.isUsable() ? (this.pieces.get(lockspace) ?? []) : [];
    const pieces: Piece[] = [];
    const take = (piece: Piece): Buffer => {
      pieces.push(piece);
      for (const fd of piece.descriptors) descriptors.add(fd);
      return piece.text;
    };
    const make = (resources: readonly Resource[]): Piece => {
      const found = new Set<number>();
      const text = resources.map((resource) => describe(resource, found)).join();
      return { resources, text: Buffer.from(`,${text}`, 'latin1'), descriptors: found };
    };
    const unknown = known.length === 0 ? lockspace.resources.values() : this.changedIn(lockspace);
    const stale = new Set<Resource>();
    for (const piece of known) {
      if (this.changed.size === 0 || !piece.resources.some((resource) => this.changed.has(resource))) {
        yield take(piece);
      } else for (const resource of piece.resources) if (isThere(resource)) stale.add(resource);
    }
    let group: Resource[] = [];
    for (const resource of known.length === 0 ? unknown : new Set([...stale, ...unknown])) {
      group.push(resource);
      if (group.length < SIZE) continue;
      yield take(make(group));
      group = [];
    }
    if (group.length > 0) yield take(make(group));
    this.pieces.set(lockspace, pieces);
  }

  private *changedIn(lockspace: Lockspace): Generator<Resource> {
    for (const resource of this.changed) if (resource.lockspace === lockspace && isThere(resource)) yield resource;
  }

  /**
   * Whether the earlier texts hold: no owner's end has begun, and no file has or may have other descriptors, for other names, or another
   * lock.
   */
  private isUsable(): boolean {
    if (this.surroundings !== this.readSurroundings()) return false;
    for (const { file } of this.changed) if (file.references > 1 || file.deferredFds.size > 0) return false;
    return true;
  }

  private readSurroundings(): string {
    return `${fileChanges()} ${this.daemon.ownerReaper.unfinished.map(({ id }) => id).join()}`;
  }
}

/** Also one that nobody holds and that is being released: the successor goes on with that, and the owner's call comes again. */
function isThere(resource: Resource): boolean {
  return resource.lockspace.resources.get(resource.name) === resource;
}
