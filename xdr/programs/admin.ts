/** The admin program, which virt-admin speaks on virtlockd-admin-sock. */
import { type FlagRule, noFlags, procedure, type Program } from '../program.ts';
import { double, i32, i64, list, nothing, optional, string, struct, u32, u64, union, type ValueOf } from '../schema.ts';

/** The most bytes in any string of this program. */
export const ADMIN_STRING_MAX = 4194304;
/** The most servers or clients in a list. */
export const ADMIN_LIST_MAX = 16384;
/** The most typed parameters that describe a thread pool or limits. */
export const ADMIN_PARAMETERS_MAX = 32;
/** The most typed parameters that describe a client. */
const ADMIN_CLIENT_PARAMETERS_MAX = 64;

/** Flag of SHUTDOWN: keeps the state for the next daemon. */
export const ShutdownFlag = { PRESERVE: 1 } as const;

/** The types of typed parameters (libvirt's virTypedParameterType). */
export const ParameterType = { INT: 1, UINT: 2, LLONG: 3, ULLONG: 4, DOUBLE: 5, BOOLEAN: 6, STRING: 7 } as const;

const text = string(ADMIN_STRING_MAX);

/** A named value of one of several types. A boolean is an i32, as in C: any but 0 is true. */
export const typedParameter = struct('typed_param', {
  field: text,
  value: union('typed_param_value', {
    [ParameterType.INT]: { name: 'i', of: i32 },
    [ParameterType.UINT]: { name: 'ui', of: u32 },
    [ParameterType.LLONG]: { name: 'l', of: i64 },
    [ParameterType.ULLONG]: { name: 'ul', of: u64 },
    [ParameterType.DOUBLE]: { name: 'd', of: double },
    [ParameterType.BOOLEAN]: { name: 'b', of: i32 },
    [ParameterType.STRING]: { name: 's', of: text },
  }),
});
export type TypedParameter = ValueOf<typeof typedParameter>;

/** A server of the daemon, by name. */
export const server = struct('server', { name: text });
export type ServerRef = ValueOf<typeof server>;

/** A client of a server. The timestamp is when it connected, in seconds since 1970; the transport is 0, UNIX. */
export const client = struct('client', { server, id: u64, timestamp: i64, transport: u32 });
export type ClientRef = ValueOf<typeof client>;

const flagsOnly = struct('flags_args', { flags: u32 });
const serverArgs = struct('server_args', { server, flags: u32 });
const clientArgs = struct('client_args', { client, flags: u32 });
const parameters = list(typedParameter, ADMIN_PARAMETERS_MAX);
const serverParametersArgs = struct('server_parameters_args', { server, params: parameters, flags: u32 });
const parametersResult = struct('parameters_ret', { params: parameters });
const settingArgs = struct('setting_args', { setting: optional(text), flags: u32 });

/** The handler first looks up the call's server or client. */
function noFlagsLate(reportedAs: string): FlagRule {
  return { allowed: 0, reportedAs, late: true };
}

export const adminProcedures = {
  open: procedure(1, {
    doc: 'Begins to use the program. Other calls are served without it, too.',
    args: flagsOnly,
    flags: noFlags('adminDispatchConnectOpen'),
  }),
  close: procedure(2, {
    doc: 'Closes the connection behind the reply.',
    args: nothing,
  }),
  getLibVersion: procedure(3, {
    doc: 'Returns the version of libvirt whose dialect the daemon speaks: major * 1000000 + minor * 1000 + micro.',
    args: nothing,
    result: struct('version_ret', { version: u64 }),
  }),
  listServers: procedure(4, {
    doc: 'Lists the servers, or only counts them if `needResults` is 0.',
    args: struct('list_servers_args', { needResults: u32, flags: u32 }),
    result: struct('list_servers_ret', { servers: list(server, ADMIN_LIST_MAX), count: u32 }),
    flags: noFlags('adminConnectListServers'),
  }),
  lookupServer: procedure(5, {
    doc: 'Finds a server by its name. Takes any flags.',
    args: struct('lookup_server_args', { name: text, flags: u32 }),
    result: struct('lookup_server_ret', { server }),
  }),
  getThreadPool: procedure(6, {
    doc: "Returns the parameters of a server's thread pool. There is none: all are 0, but prioWorkers once it was set.",
    args: serverArgs,
    result: parametersResult,
    flags: noFlagsLate('adminServerGetThreadPoolParameters'),
  }),
  setThreadPool: procedure(7, {
    doc: "Changes a server's thread pool; only prioWorkers can be other than 0.",
    args: serverParametersArgs,
    flags: noFlagsLate('adminServerSetThreadPoolParameters'),
  }),
  listClients: procedure(8, {
    doc: 'Lists the clients of a server, or only counts them if `needResults` is 0.',
    args: struct('list_clients_args', { server, needResults: u32, flags: u32 }),
    result: struct('list_clients_ret', { clients: list(client, ADMIN_LIST_MAX), count: u32 }),
    flags: noFlagsLate('adminServerListClients'),
  }),
  lookupClient: procedure(9, {
    doc: 'Finds a client of a server by its id.',
    args: struct('lookup_client_args', { server, id: u64, flags: u32 }),
    result: struct('lookup_client_ret', { client }),
    flags: noFlagsLate('adminServerLookupClient'),
  }),
  getClientInfo: procedure(10, {
    doc: 'Returns the identity of a client.',
    args: clientArgs,
    result: struct('client_info_ret', { params: list(typedParameter, ADMIN_CLIENT_PARAMETERS_MAX) }),
    flags: noFlagsLate('adminClientGetInfo'),
  }),
  closeClient: procedure(11, {
    doc: 'Disconnects a client.',
    args: clientArgs,
    flags: noFlagsLate('adminClientClose'),
  }),
  getClientLimits: procedure(12, {
    doc: "Returns a server's limits, and how many clients count against them.",
    args: serverArgs,
    result: parametersResult,
    flags: noFlagsLate('adminServerGetClientLimits'),
  }),
  setClientLimits: procedure(13, {
    doc: "Changes a server's limits. No client is disconnected.",
    args: serverParametersArgs,
    flags: noFlagsLate('adminServerSetClientLimits'),
  }),
  getLogOutputs: procedure(14, {
    doc: 'Returns the log outputs and their number.',
    args: flagsOnly,
    result: struct('log_outputs_ret', { outputs: text, count: u32 }),
    flags: noFlags('adminConnectGetLoggingOutputs'),
  }),
  getLogFilters: procedure(15, {
    doc: 'Returns the log filters, absent if there are none, and their number.',
    args: flagsOnly,
    result: struct('log_filters_ret', { filters: optional(text), count: u32 }),
    flags: noFlags('adminConnectGetLoggingFilters'),
  }),
  setLogOutputs: procedure(16, {
    doc: 'Replaces the log outputs. Absent or empty: the default output.',
    args: settingArgs,
    flags: noFlags('adminConnectSetLoggingOutputs'),
  }),
  setLogFilters: procedure(17, {
    doc: 'Replaces the log filters. Absent or empty: none.',
    args: settingArgs,
    flags: noFlags('adminConnectSetLoggingFilters'),
  }),
  updateTls: procedure(18, {
    doc: 'Reads TLS files again. Always an error, because no server speaks TLS.',
    args: serverArgs,
    flags: noFlagsLate('adminServerUpdateTlsFiles'),
  }),
  setTimeout: procedure(19, {
    doc: 'Ends the daemon after so many idle seconds; 0: never.',
    args: struct('timeout_args', { seconds: u32, flags: u32 }),
    flags: noFlags('adminConnectSetDaemonTimeout'),
    since: 9000000,
  }),
  shutdown: procedure(20, {
    doc: 'Ends the daemon. Flags: PRESERVE 1.',
    args: flagsOnly,
    flags: { allowed: ShutdownFlag.PRESERVE, reportedAs: 'adminConnectDaemonShutdown' },
    since: 11003000,
  }),
} as const;

export const adminProgram: Program<typeof adminProcedures> = {
  name: 'admin',
  number: 0x06900690,
  version: 1,
  doc: 'Servers, clients, limits and logging of the running daemon.',
  procedures: adminProcedures,
};
