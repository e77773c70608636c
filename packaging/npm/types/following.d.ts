/**
 * What a client follows, and which answers it still waits for: what the next URL has to name, and what a connection has to
 * be told so that it follows what is wanted by now.
 *
 * A name is *covered* when the connection's `since` brings what it missed. Before that, and when the past of a channel is
 * asked for, it needs a subscription with a `since` of its own, which is asked for anew by each connection until the
 * gateway has answered it.
 */
export type Entry = {
    covered: boolean;
    /**
     * of the subscription that it needs; empty: from now on; undefined: it needs none
     */
    since?: string;
    /**
     * the connection that has asked for it
     */
    asked?: import("./types.js").Connection;
};
/**
 * @typedef {object} Entry
 * @property {boolean} covered
 * @property {string} [since] of the subscription that it needs; empty: from now on; undefined: it needs none
 * @property {import("./types.js").Connection} [asked] the connection that has asked for it
 */
export declare class Following {
    #private;
    get names(): string[];
    /** @param {string} name */
    has(name: string): boolean;
    /** @param {string} name */
    delete(name: string): boolean;
    /**
     * @param {string} name
     * @param {string} [since] undefined: the connection's `since` covers it
     */
    add(name: string, since?: string): void;
    /**
     * Puts into the URL of a connection what it is to follow, as far as it fits.
     *
     * @param {import("./types.js").Connection} conn
     * @param {URL} url
     * @param {string} [since] for the names that it covers
     */
    ask(conn: import("./types.js").Connection, url: URL, since?: string): void;
    /**
     * Makes a connection follow what is wanted by now, as far as frames may be sent in this second.
     *
     * @param {import("./types.js").Connection} conn
     * @param {(frame: object) => void} send
     * @returns {boolean} whether it does; over Server-Sent Events, which carry no frames, whether it did before
     */
    bring(conn: import("./types.js").Connection, send: (frame: object) => void): boolean;
    /**
     * Postpones the names for which the URL of an event stream had no room, since no frame can be sent to it: the next
     * connection asks for them from this place on.
     *
     * @param {import("./types.js").Connection} conn
     * @param {string} since
     * @returns {string[]}
     */
    postpone(conn: import("./types.js").Connection, since: string): string[];
    /**
     * Notes that a connection brings the newest message of its channels: if it ends before a channel's came, the next one
     * asks for it again.
     *
     * @param {import("./types.js").Connection} conn
     */
    awaitNewest(conn: import("./types.js").Connection): void;
    /**
     * A subscription is complete.
     *
     * @param {string} name
     */
    answered(name: string): void;
    /**
     * A subscription was refused: what was followed before goes on.
     *
     * @param {import("./types.js").Connection} conn
     * @param {string} name
     */
    refused(conn: import("./types.js").Connection, name: string): void;
    /**
     * A gap of one name: everything up to this id has come or is lost.
     *
     * @param {string} name
     * @param {string} id
     */
    skipped(name: string, id: string): void;
    /**
     * Whether a message brings a channel forward that is still behind: its id says nothing about the others.
     *
     * @param {string} channel
     */
    behind(channel: string): boolean;
    /**
     * A connection is lost. Names that it was to follow from then on, and has not confirmed, are asked for from this id on.
     *
     * @param {import("./types.js").Connection} conn
     * @param {string} [id]
     */
    lost(conn: import("./types.js").Connection, id?: string): void;
}
