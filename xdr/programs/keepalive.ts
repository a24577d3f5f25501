/** The keepalive program: events, which both servers answer before they check anything else. */
export const KEEPALIVE_PROGRAM = 0x6b656570;
export const KEEPALIVE_VERSION = 1;
export const KeepaliveProcedure = { PING: 1, PONG: 2 } as const;
