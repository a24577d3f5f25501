/** One of the machine's two libvirtds. Both have the one lock daemon, so that guests can be migrated between them. */
import { readFileSync } from 'node:fs';
import { forkSafely } from '../../../src/lab/forks.ts';
import { eventually, type Finished } from '../../../src/lab/process.ts';
import type { Machine } from '../../package/machine.ts';

export interface LogLine {
  /** CLOCK_REALTIME in ms. */
  readonly at: number;
  readonly text: string;
}

interface Place {
  readonly unit: string;
  readonly uri: string;
  /** Has guests' pid files. */
  readonly directory: string;
  readonly log: string;
}

/** As the libvirtd of the distribution runs. */
export const MAIN: Place = {
  unit: 'libvirtd.service',
  uri: 'qemu:///system',
  directory: '/run/libvirt/qemu',
  log: '/var/log/libvirt/deaths.log',
};

/** Where the second one has its state: libvirt's own directories, below this one. */
const PEER_STATE = '/srv/peer';
const PEER_SOCKETS = '/run/peer';
const PEER_START = `${PEER_STATE}/start`;
const PEER_CONFIGURATION = `${PEER_STATE}/libvirtd.conf`;

export const PEER: Place = {
  unit: 'libvirtd-peer.service',
  uri: `qemu+unix:///system?socket=${PEER_SOCKETS}/libvirt-sock`,
  directory: `${PEER_STATE}/run/libvirt/qemu`,
  log: '/var/log/libvirt/peer.log',
};

/**
 * What the second libvirtd needs, by path. It has the first one's file system but for its own state, and sees the lock daemon's socket.
 * libvirt migrates no guest to a host with the same name or UUID.
 */
export const peerFiles: Readonly<Record<string, string>> = {
  [PEER_CONFIGURATION]: `unix_sock_dir = "${PEER_SOCKETS}"
host_uuid = "11111111-2222-3333-4444-555555555555"
auth_unix_rw = "none"
log_outputs = "3:file:${PEER.log}"
`,
  [PEER_START]: `set -e
hostname peer
for directory in /run/libvirt/*/ /var/lib/libvirt/ /var/cache/libvirt/; do
  mkdir -p "${PEER_STATE}$directory"
  mount --bind "${PEER_STATE}$directory" "$directory"
done
exec /usr/sbin/libvirtd --config ${PEER_CONFIGURATION} --pid-file ${PEER_SOCKETS}/libvirtd.pid
`,
  // systemd-machined has the first one's guests, and no two machines with one name: the second one reaches no message bus.
  [`/etc/systemd/system/${PEER.unit}`]: `[Service]
Environment=DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent G_SLICE=${forkSafely.G_SLICE}
ExecStart=/usr/bin/unshare --mount --uts --propagation private /bin/sh ${PEER_START}
RuntimeDirectory=peer
KillMode=process
`,
};

export class Libvirt {
  readonly #machine: Machine;
  readonly #place: Place;

  constructor(machine: Machine, place: Place) {
    this.#machine = machine;
    this.#place = place;
  }

  get uri(): string {
    return this.#place.uri;
  }

  async virsh(...args: readonly string[]): Promise<Finished> {
    return this.#machine.run('virsh', '-q', '-c', this.uri, ...args);
  }

  /** As virsh, and ends it after a time. Its status is 124 then. */
  async virshWithin(seconds: number, ...args: readonly string[]): Promise<Finished> {
    return this.#machine.run('timeout', String(seconds), 'virsh', '-q', '-c', this.uri, ...args);
  }

  /** Starts it as a service or starts it again, and waits until virsh reaches it. */
  async restart(): Promise<void> {
    await this.#machine.must('systemctl', 'restart', this.#place.unit);
    await eventually('libvirtd answers', async () => (await this.virsh('list')).code === 0, 30_000);
  }

  /** The pid of a guest's QEMU, inside the machine; undefined if it has none. */
  pidOf(guest: string): number | undefined {
    try {
      return Number(readFileSync(this.#machine.outside(`${this.#place.directory}/${guest}.pid`), 'latin1'));
    } catch {
      return undefined;
    }
  }

  /** Its warnings and errors. */
  log(): LogLine[] {
    return readFileSync(this.#machine.outside(this.#place.log), 'latin1')
      .split('\n')
      .flatMap((line) => {
        const [, time, text] = /^(\S+ \S+): \d+: ((?:warning|error) : .*)$/.exec(line) ?? [];
        return time === undefined || text === undefined ? [] : [{ at: Date.parse(time.replace(' ', 'T')), text }];
      });
  }
}
