/**
 * What a client follows, and which answers it still waits for: what the next URL has to name, and what a connection has to
 * be told so that it follows what is wanted by now.
 *
 * A name is *covered* when the connection's own `since` brings what it missed. Before that, and when the past of a channel
 * is asked for, it is *owed* the answer to a subscription with a `since` of its own, which outlives connections.
 */
export type Entry = {
    covered: boolean;
    /**
     * the `since` to ask for; empty: from now on; undefined: nothing is owed
     */
    owed?: string;
    /**
     * where it was asked for
     */
    asked?: import("./types.js").Connection;
};
/**
 * @typedef {object} Entry
 * @property {boolean} covered
 * @property {string} [owed] the `since` to ask for; empty: from now on; undefined: nothing is owed
 * @property {import("./types.js").Connection} [asked] where it was asked for
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
     * @param {string} [owed] undefined: the connection's `since` covers it
     */
    add(name: string, owed?: string): void;
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
     * Names that found no room in the URL of a stream, to which no frame can be sent: they are owed everything from where
     * it began.
     *
     * @param {import("./types.js").Connection} conn
     * @param {string} since
     * @returns {string[]}
     */
    postpone(conn: import("./types.js").Connection, since: string): string[];
    /**
     * The newest message of these channels is on its way; if the connection ends before it came, it is asked for again, beside
     * what follows the present.
     *
     * @param {import("./types.js").Connection} conn
     */
    oweNewest(conn: import("./types.js").Connection): void;
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
     * Everything of a name up to this id is there or lost.
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
     * A connection is lost. What it was to follow from then on, without having said so, is owed everything from the id.
     *
     * @param {import("./types.js").Connection} conn
     * @param {string} [id]
     */
    lost(conn: import("./types.js").Connection, id?: string): void;
}
