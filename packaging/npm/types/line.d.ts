/**
 * The line from a client to its gateway: one connection at a time, which is dialed, kept alive, and dialed again after a
 * pause when it is lost. A line knows transports, tokens, close codes and delays. It knows nothing of channels: what a URL
 * asks for, and what frames mean, its owner decides, the Herald.
 */
export type Connection = import("./types.js").Connection;
export type Owner = {
    /**
     * puts into the URL what the connection is to follow
     */
    ask: (conn: Connection, url: URL) => void;
    /**
     * handles each frame but a pong
     */
    frame: (conn: Connection, frame: any) => void;
    /**
     * a connection has ended, not by close() or redial(); the state
     * changes after that
     */
    lost: (conn: Connection, code: number) => void;
    state: (change: import("./types.js").StateChange) => void;
    error: (fault: import("./types.js").Fault) => void;
};
export declare class Line {
    #private;
    /**
     * @param {URL} base of /ws
     * @param {import("./types.js").Options} options
     * @param {string} key in the storage
     * @param {Owner} owner
     */
    constructor(base: URL, options: import("./types.js").Options, key: string, owner: Owner);
    get state(): import("./types.js").State;
    /** The connection of now, whatever its state; undefined while waiting or closed. */
    get conn(): import("./types.js").Connection | undefined;
    /** Dials the first time, or after the end. */
    begin(): void;
    /** See Herald.open. */
    open(): void;
    /** See Herald.close. */
    close(): void;
    /** See Herald.ping. @returns {Promise<number>} */
    ping(): Promise<number>;
    /**
     * The welcome frame came: from now on the connection is watched, and its token renewed.
     *
     * @param {Connection} conn
     * @param {number | undefined} heartbeat in seconds
     */
    welcomed(conn: Connection, heartbeat: number | undefined): void;
    /** The owner has handled the welcome frame. */
    opened(): void;
    /**
     * Puts another connection in the place of one that works. Of one that is no longer the connection of now it does nothing.
     *
     * @param {Connection} conn
     * @param {string} [token]
     * @param {import("./choice.js").Kind} [kind]
     */
    redial(conn: Connection, token?: string, kind?: import("./choice.js").Kind): void;
}
