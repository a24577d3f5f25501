/** Lets a test kill this program between two steps, to show that another run repairs everything. */
export function failpoint(name: string): void {
  if (process.env.VIRTLOCKD_SWAP_FAILPOINT === name) process.kill(process.pid, 'SIGKILL');
}
