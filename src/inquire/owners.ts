/**
 * Details of an owner. One that registered with this daemon gave them all. A C daemon leaves the pid alone; the command line of a QEMU
 * has the guest's name and UUID.
 */
import type { ByteString } from '../../xdr/codec.ts';
import { Identity, type OwnerInfo } from '../../xdr/programs/inquire.ts';
import { NIL_UUID, type OwnerIdentity } from '../lockspace/owner.ts';
import { commandLineOf } from '../proc/processes.ts';

/** By identity object, which all holds of an owner share: each process's command line is read once. */
const guesses = new WeakMap<OwnerIdentity, OwnerInfo>();

/** Returns the words of a process's command line; none when it cannot be read. */
type ReadCommandLine = (pid: number) => readonly ByteString[];

function fromProc(pid: number): readonly ByteString[] {
  try {
    return commandLineOf(pid);
  } catch {
    return [];
  }
}

export function describeOwner(owner: OwnerIdentity, read: ReadCommandLine = fromProc): OwnerInfo {
  const { pid, id, name, uuid } = owner;
  // Nobody registers with id 0.
  if (id !== 0) return { pid, id, name, uuid, identity: Identity.REGISTERED };
  const known = guesses.get(owner);
  if (known !== undefined) return known;
  const guessed = guessOwner(pid, read(pid));
  guesses.set(owner, guessed);
  return guessed;
}

/** The owner's details in the command line of its process. */
export function guessOwner(pid: number, words: readonly ByteString[]): OwnerInfo {
  const unknown = { pid, id: 0, name: '', uuid: NIL_UUID, identity: Identity.UNKNOWN };
  const program = words[0] ?? '';
  if (!/(?:^|\/)(?:qemu|kvm)[^/]*$/.test(program)) return unknown;
  const value = (option: string): string => {
    const index = words.indexOf(option);
    return index < 0 ? '' : (words[index + 1] ?? '');
  };
  const name = guestName(value('-name'));
  const uuid = value('-uuid').toLowerCase();
  if (name === '' && uuid === '') return unknown;
  const valid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(uuid);
  return { pid, id: 0, name, uuid: valid ? uuid : NIL_UUID, identity: Identity.GUESSED };
}

/** QEMU's `-name`: `guest=NAME,debug-threads=on` or `NAME,…`. A comma within a value is doubled. */
function guestName(option: string): ByteString {
  const parts = option.split(/(?<!,)(?:,,)*,(?!,)/);
  const guest = parts.find((part) => part.startsWith('guest='));
  const name = guest === undefined ? (parts[0] ?? '') : guest.slice('guest='.length);
  return name.replaceAll(',,', ',');
}
