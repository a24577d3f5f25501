/**
 * Takes the place of a daemon's socket and gives it back. There is a socket that somebody listens at by that name at every
 * moment: names are exchanged, never removed first.
 */
import { linkSync, lstatSync, renameSync, statSync, unlinkSync } from 'node:fs';
import { Proxy, type Wiring } from './proxy.ts';
import { relay } from './relay.ts';

/** The daemon's own socket is called so meanwhile. */
export const ASIDE = '.untraced';
const COMING = '.tracing';

export class Interposed {
  readonly proxy: Proxy;
  private readonly socket: string;
  private readonly inode: number;
  private isBack = false;

  /** @throws Error that says why that cannot be; everything is then as it was */
  constructor(socket: string, wiring: Wiring) {
    this.socket = socket;
    recover(socket);
    if (!lstatSync(socket, { throwIfNoEntry: false })?.isSocket()) throw new Error(`${socket} is no socket`);
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

  /** From now on newcomers reach the daemon itself. Those who are here pass through as before. */
  putBack(): void {
    if (this.isBack) return;
    this.isBack = true;
    const there = lstatSync(this.socket, { throwIfNoEntry: false });
    // The daemon that ends removes the name, and one that begins makes a new socket by that name: then ours is gone already.
    if (there?.ino === this.inode) renameSync(`${this.socket}${ASIDE}`, this.socket);
    else removeFile(`${this.socket}${ASIDE}`);
    this.proxy.stopListening();
  }
}

/** Puts back what an earlier proxy, that was killed, has left. @throws Error when it lives */
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
