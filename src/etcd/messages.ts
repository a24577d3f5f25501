/** The messages between the daemon and its etcd client (worker.ts), in JSON: settings, of which the first is, requests, and to forget these. */
import type { ByteString } from '../../xdr/codec.ts';
import type { EtcdSettings } from './settings.ts';

/** How a request may end that was not done. */
export const Failure = {
  /** No member has answered in time. What was asked for may come about later. */
  UNREACHABLE: 'unreachable',
  /** The members have refused it. */
  REFUSED: 'refused',
  /** The lease is gone: it has lapsed, or was revoked. */
  NO_LEASE: 'no-lease',
} as const;
export type Failure = (typeof Failure)[keyof typeof Failure];

/** A key with its value. Numbers of 64 bits are in decimal digits. */
export interface Entry {
  readonly key: ByteString;
  readonly value: ByteString;
  /** 0: on none. */
  readonly lease: string;
  readonly created: string;
  readonly modified: string;
}

/** No other cluster's answer counts for the lease; without the id, that of one other than the first to answer. */
interface LeaseOfCluster {
  readonly lease: string;
  readonly cluster?: string | undefined;
}

/** Requests by name, each with its arguments and its result. */
export interface Operations {
  /** `cluster`: the id of the one that has granted it. */
  grant: { args: { seconds: number }; result: { lease: string; seconds: number; cluster: string } };
  /** `seconds` are 0 for a lease that the leader does not know: see `confirm`. */
  keepAlive: { args: LeaseOfCluster; result: { seconds: number } };
  /** Whether the lease exists, by what all members agree on. Puts a key on it that is not there. */
  confirm: { args: LeaseOfCluster & { key: ByteString; value: ByteString }; result: { exists: boolean } };
  /** One that is gone is fine. */
  revoke: { args: { lease: string }; result: null };
  /** Puts a key on a lease, whatever is there. */
  put: { args: { key: ByteString; value: ByteString; lease: string }; result: null };
  /**
   * Takes a lock. The value must be unlike that of any other call: it shows which attempt was successful.
   */
  acquire: {
    args: { resource: ByteString; shared: boolean; creates: boolean; value: ByteString; lease: string };
    result: { kind: 'granted'; revision: string } | { kind: 'busy'; holders: readonly Entry[] } | { kind: 'missing' };
  };
  /** Gives a lock back that was granted with this revision. One that is gone is fine. With `unlinks` the resource goes with its last lock. */
  release: {
    args: { resource: ByteString; shared: boolean; lease: string; revision: string; unlinks: boolean };
    result: null;
  };
  /** Gives a key the value, if it is still the one of that creation. */
  replace: { args: { key: ByteString; created: string; value: ByteString; lease: string }; result: null };
  /** Makes a resource; one that exists is fine. */
  create: { args: { resource: ByteString }; result: null };
  /** Removes a resource that no host holds; one that does not exist is fine. */
  delete: { args: { resource: ByteString }; result: { isBusy: boolean } };
  /** Keys from `from` on, at most `limit`; fewer where they are long. */
  list: {
    args: { from: ByteString; end: ByteString; limit: number };
    result: { entries: readonly Entry[]; more: boolean };
  };
  /** The hosts in the range, each with the seconds that are left of its lease; -1: none. */
  hosts: {
    args: { from: ByteString; end: ByteString; limit: number };
    result: { hosts: readonly { key: ByteString; value: ByteString; left: number }[]; more: boolean };
  };
  /** Keys on a lease after a given one, in order, as many as a message holds, and the seconds that are left of it; -1: it is gone. */
  describe: {
    args: { lease: string; after: ByteString };
    result: { seconds: number; keys: readonly ByteString[]; more: boolean };
  };
  /** Removes a key that was last changed at this revision. */
  remove: { args: { key: ByteString; modified: string }; result: null };
  /** Asks each member. */
  members: { args: null; result: { members: readonly MemberState[] } };
}

export interface MemberState {
  readonly endpoint: string;
  /** Why it gave no answer. */
  readonly failure?: string;
  readonly version?: string;
  readonly isLeader?: boolean;
  /** Bytes of its database. */
  readonly size?: number;
  readonly errors?: readonly string[];
}

export type OperationName = keyof Operations;
export type Args<N extends OperationName> = Operations[N]['args'];
export type Result<N extends OperationName> = Operations[N]['result'];

export interface RequestMessage<N extends OperationName = OperationName> {
  readonly id: number;
  readonly name: N;
  readonly args: Args<N>;
  /** How long it may take, in milliseconds. */
  readonly limit: number;
}

export interface SettingsMessage {
  readonly settings: EtcdSettings;
}

/** Of another program of the daemon: what the one before has asked for is not done, unless that has begun. */
export interface ForgetMessage {
  readonly forget: true;
}

export type AnswerMessage =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly failure: Failure; readonly text: ByteString };

/** The most bytes of a message. */
export const MAX_MESSAGE = 128 * 1024;
