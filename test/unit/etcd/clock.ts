/** A clock that stands until the test moves it on. */
export class Clock {
  private time = 1000;
  private readonly timers: { readonly at: number; readonly callback: () => void }[] = [];

  now(): number {
    return this.time;
  }

  setTimeout(callback: () => void, milliseconds: number): void {
    this.timers.push({ at: this.time + milliseconds, callback });
  }

  /** Goes on, with all timers that are due by then in their order. */
  advance(milliseconds: number): void {
    const end = this.time + milliseconds;
    for (;;) {
      this.timers.sort((one, other) => one.at - other.at);
      const [first] = this.timers;
      if (first === undefined || first.at > end) break;
      this.timers.shift();
      this.time = first.at;
      first.callback();
    }
    this.time = end;
  }
}
