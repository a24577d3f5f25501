/**
 * Takes the place of a daemon's socket, and gives it back. At every moment a process listens at the usual name: names are
 * replaced, never removed first.
 */
import { linkSync, lstatSync, renameSync, statSync, unlinkSync } from 'node:fs';
import { Proxy, type Wiring } from './proxy.ts';
import { relay } from './relay.ts';

/** Until then the daemon's own socket has this suffix. */
const ASIDE = '.untraced';
const COMING = '.tracing';

export class Interposed {
  readonly proxy: Proxy;
  private readonly socket: string;
  private readonly inode: number;
  private isBack = false;

  /** @throws Error with nothing changed */
  constructor(socket: string, wiring: Wiring) {
    this.socket = socket;
    recover(socket);
    if (!lstatSync(socket, { throwIfNoEntry: false })?.isSocket()) throw new Error(`${socket} is not a socket`);
    const coming = `${socket}${COMING}`;
    removeFile(coming);
    linkSync(socket, `${socket}${ASIDE}`);
    try {
      this.proxy = new Proxy(coming, `${socket}${ASIDE}`, wiring);
      this.inode = statSync(coming).ino;
      renameSync(coming, socket);
    } catch (error) {
      removeFile(coming);
      removeFile(`${socket}${ASIDE}`);
      throw error;
    }
  }

  /** Newcomers then reach the daemon itself. Present connections still pass through the proxy. */
  putBack(): void {
    if (this.isBack) return;
    this.isBack = true;
    const there = lstatSync(this.socket, { throwIfNoEntry: false });
    // A daemon that has ended has removed our name, and one that has started has replaced it.
    if (there?.ino === this.inode) renameSync(`${this.socket}${ASIDE}`, this.socket);
    else removeFile(`${this.socket}${ASIDE}`);
    this.proxy.stopListening();
  }
}

/** Puts back the socket of an earlier proxy that was killed. @throws Error if that proxy lives */
function recover(socket: string): void {
  const aside = `${socket}${ASIDE}`;
  if (lstatSync(aside, { throwIfNoEntry: false }) === undefined) return;
  const isListening = (path: string): boolean => relay().isListening(Buffer.from(path).toString('latin1'));
  if (!isListening(aside)) removeFile(aside);
  else if (isListening(socket)) throw new Error(`${socket} is traced already: ${aside} is there`);
  else renameSync(aside, socket);
}

function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
