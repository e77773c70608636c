/**
 * Herald's client: receives messages over WebSocket, or as Server-Sent Events where no WebSocket gets through, comes back
 * by itself when the connection is lost, and goes on where it was. ES modules without dependencies, for browsers and for
 * Node 20 or newer.
 *
 *     import { connect } from "/client/herald.js";
 *     const herald = connect("/ws", { channels: ["orders.*"] });
 *     herald.on("message", (m) => console.log(m.channel, m.data));
 *
 * What it promises: while the object lives, every message of its channels is handed to the `message` handlers once, in
 * stream order, across lost connections. Where the gateway no longer has what was missed, a `gap` event says so. The
 * one thing that may come twice is the replay of a `subscribe` with `since`, if the connection broke in its middle.
 *
 * Changes of what is followed that are made in one turn go out together, and not more often than the gateway lets in: a
 * loop of subscribe() calls needs no care.
 *
 * Over Server-Sent Events the client cannot speak, so what it follows stands in the URL, and a change of it, or a new
 * token, is another stream in place of the one there is, from the newest id on. Nothing is missed or doubled by that; but:
 * a change costs a request, during which messages wait; what does not fit into a URL (100 names, 4 KiB) is refused with
 * the error `limit` until a WebSocket gets through; a newer token that no longer covers a channel ends the connection
 * instead of the subscription; and over HTTP/1.1 each stream is one of the six connections that a browser opens to a host.
 *
 * The shapes are in types.js, the contract is proto/PROTOCOL.md.
 */
export { backoff, channelFault, comesBack, isNewer, isPattern } from "./protocol.js";
export type Connection = import("./types.js").Connection;
/**
 * One subscription set on one Herald, whatever happens to the connection below. See connect().
 */
export declare class Herald {
    #private;
    /**
     * @param {string | URL} url of the gateway's /ws: relative to the page, or http, https, ws or wss. Query parameters
     *   stay; `channel` counts as one of the channels. Its neighbour /sse is where Server-Sent Events are.
     * @param {import("./types.js").Options} [options]
     */
    constructor(url: string | URL, options?: import("./types.js").Options);
    get state(): import("./types.js").State;
    /**
     * What the connection uses; undefined unless the state is `open`.
     * @returns {import("./choice.js").Kind | undefined}
     */
    get transport(): import("./choice.js").Kind | undefined;
    /** The newest id seen: what the next connection resumes from. */
    get id(): string | undefined;
    /** The channels and patterns that are followed, or will be once there is a connection. */
    get channels(): string[];
    /**
     * @template {keyof import("./types.js").Events} T
     * @param {T} type
     * @param {(detail: import("./types.js").Events[T]) => void} handler what it throws is reported as uncaught, and harms
     *   nobody else
     * @returns {() => void} removes the handler
     */
    on<T extends keyof import("./types.js").Events>(type: T, handler: (detail: import("./types.js").Events[T]) => void): () => void;
    /**
     * @template {keyof import("./types.js").Events} T
     * @param {T} type
     * @param {(detail: import("./types.js").Events[T]) => void} handler
     */
    off<T extends keyof import("./types.js").Events>(type: T, handler: (detail: import("./types.js").Events[T]) => void): void;
    /** Connects now: again after `closed`, or without waiting for the end of `waiting`. Else it does nothing. */
    open(): void;
    /** Says goodbye and stays away. */
    close(): void;
    /**
     * Follows more channels, now and after each reconnect. The answer is a `subscribed` event for each, or an `error`.
     *
     * @param {string | string[]} channel channels or patterns
     * @param {{since?: string}} [options] an id, `all` or `last`: send this first. A channel that is followed already is
     *   asked for again only with `since`.
     * @throws {TypeError} if one is no valid name; then none is followed
     */
    subscribe(channel: string | string[], { since }?: {
        since?: string;
    }): void;
    /** @param {string | string[]} channel */
    unsubscribe(channel: string | string[]): void;
    /**
     * State and stream without a race: loads what is there now, and hands over each later message after it. The place in the
     * stream is taken before the load, so nothing falls between; a message that the loaded state has already may follow it.
     * After a `gap` it is loaded again. While the load runs, messages wait; if it fails it is tried again, and they still wait.
     *
     * @template T
     * @param {string} channel a channel or pattern
     * @param {object} handlers
     * @param {(id: string | undefined, signal: AbortSignal) => T | Promise<T>} handlers.load is called with the id that was
     *   taken; the signal is for `fetch`: it aborts a load that no longer counts, after a `gap` or at the end
     * @param {(state: T) => void} [handlers.state] what was loaded, the first time and after each gap
     * @param {(message: import("./types.js").Message) => void} [handlers.message] what came since, after `state`
     * @returns {() => void} ends it; the last of a channel ends the subscription, too, if the first began it
     */
    follow<T>(channel: string, handlers: {
        load: (id: string | undefined, signal: AbortSignal) => T | Promise<T>;
        state?: (state: T) => void;
        message?: (message: import("./types.js").Message) => void;
    }): () => void;
    /**
     * @returns {Promise<number>} the round trip to the gateway in milliseconds; rejected if the connection is not open,
     *   ends first, or is no WebSocket
     */
    ping(): Promise<number>;
}
/**
 * Opens a connection to Herald and keeps it open.
 *
 * @param {string | URL} url
 * @param {import("./types.js").Options} [options]
 */
export declare function connect(url: string | URL, options?: import("./types.js").Options): Herald;
