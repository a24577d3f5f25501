/**
 * Clients of the program before this one that are adopted when they call, or when there is time: after a re-execution
 * every guest's management waits, and most of them have nothing to say. Their sockets hang on the inherited epoll already.
 */
import type { LateClients as Late } from '../rpc/server.ts';

export class LateClients implements Late {
  private readonly states: Map<number, unknown>;
  private readonly adoptState: (state: unknown, fd: number) => void;

  /**
   * @param states by descriptor, as they stand in the document
   * @param adoptState reads such a state and adopts the client; does not throw
   */
  constructor(states: Map<number, unknown>, adoptState: (state: unknown, fd: number) => void) {
    this.states = states;
    this.adoptState = adoptState;
  }

  get size(): number {
    return this.states.size;
  }

  adoptAt(fd: number): void {
    const state = this.states.get(fd);
    if (state === undefined) return;
    this.states.delete(fd);
    this.adoptState(state, fd);
  }

  adopt(count: number): void {
    for (const fd of this.states.keys()) {
      if (count-- <= 0) break;
      this.adoptAt(fd);
    }
  }
}
