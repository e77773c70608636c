/**
 * What keeps a connection alive, or finds out that it is not: silence is noticed, tokens are renewed, and beside a stream
 * of events it is looked whether a WebSocket gets through. Timers stand in the connection, and end with it.
 */
export type Connection = import("./types.js").Connection;
export declare const OPEN_TIMEOUT = 5000;
export type Silence = {
    /**
     * sends a ping
     */
    ask: () => void;
    dead: (conn: Connection, reason: string) => void;
};
/**
 * @typedef {object} Silence
 * @property {() => void} ask sends a ping
 * @property {(conn: Connection, reason: string) => void} dead
 */
/**
 * Notices a connection that died without a word. The gateway's own pings are invisible to a page, so after two
 * heartbeats without a frame it asks. A stream of events has a comment each heartbeat.
 *
 * @param {Connection} conn
 * @param {Silence} silence
 */
export declare function watch(conn: Connection, silence: Silence): void;
/**
 * Asks a connection whether it is there. A stream of events cannot be asked.
 *
 * @param {Connection} conn
 * @param {Silence} silence
 */
export declare function probe(conn: Connection, silence: Silence): void;
/**
 * Asks for a fresh token before the old one expires. If that fails the old one still holds, and it is asked again.
 *
 * @param {Connection} conn
 * @param {() => string | undefined | Promise<string | undefined>} ask
 * @param {(token: string) => void} use
 * @param {(err: unknown) => void} failed
 */
export declare function renew(conn: Connection, ask: () => string | undefined | Promise<string | undefined>, use: (token: string) => void, failed: (err: unknown) => void): void;
/**
 * Looks, beside a stream of events, whether a WebSocket gets through by now; again and again until one does.
 *
 * @param {Connection} conn
 * @param {new (url: string, protocols?: string[]) => WebSocket} WebSocket
 * @param {URL} url of /ws
 * @param {import("./choice.js").Choice} choice says when
 * @param {() => void} works
 */
export declare function recheck(conn: Connection, WebSocket: new (url: string, protocols?: string[]) => WebSocket, url: URL, choice: import("./choice.js").Choice, works: () => void): void;
