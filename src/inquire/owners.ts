/**
 * Details of an owner. One that registered with this daemon gave them all. A C daemon leaves the pid alone; the command line of a QEMU
 * has the guest's name and UUID.
 */
import type { ByteString } from '../../xdr/codec.ts';
import { Identity, type OwnerInfo } from '../../xdr/programs/inquire.ts';
import { NIL_UUID, type OwnerIdentity } from '../lockspace/owner.ts';
import { CommandLines } from './command-lines.ts';

/** By identity object, which all holds of an owner share: each process's command line is read once. */
const guesses = new WeakMap<OwnerIdentity, OwnerInfo>();
const commandLines = new CommandLines();

/** Whether all is known of an owner that will be. Nobody registers with id 0. */
export function isDescribed(owner: OwnerIdentity): boolean {
  return owner.id !== 0 || owner.pid === 0 || guesses.has(owner);
}

/** What is known so far. */
export function describeOwner(owner: OwnerIdentity): OwnerInfo {
  const { pid, id, name, uuid } = owner;
  if (id !== 0) return { pid, id, name, uuid, identity: Identity.REGISTERED };
  return guesses.get(owner) ?? guessOwner(pid, []);
}

/** Reads the command line of the owner's process, and calls back, later, once the owner {@link isDescribed}. */
export function lookForOwner(
  owner: OwnerIdentity,
  done: () => void,
  lines: Pick<CommandLines, 'read'> = commandLines,
): void {
  const { pid } = owner;
  lines.read(pid, (words) => {
    guesses.set(owner, guessOwner(pid, words));
    done();
  });
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
