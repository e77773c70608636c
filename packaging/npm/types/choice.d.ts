/**
 * Which transport to connect over. WebSocket is the better one; Server-Sent Events are for where it does not get through.
 *
 * A gateway that is down answers to neither, so after two attempts without an answer they take turns, and the first that is
 * welcomed has it. If that were the events, they stay the first choice for a while, also on the next page; then it is time
 * to look whether a WebSocket gets through by now.
 */
export type Kind = "websocket" | "sse";
export declare class Choice {
    #private;
    /**
     * @param {import("./types.js").Options} options are read again each time: a WebSocket class may turn out to be none
     * @param {string} key in the storage
     */
    constructor(options: import("./types.js").Options, key: string);
    /** @returns {Kind} what to try next */
    get next(): Kind;
    /** Whether there is one. */
    get free(): boolean;
    /** Whether a WebSocket ever worked here. */
    get worked(): boolean;
    /** Milliseconds until it is time to look whether a WebSocket gets through. */
    get recheck(): number;
    /** A series of attempts begins. */
    begin(): void;
    /**
     * A frame came.
     *
     * @param {Kind} kind
     */
    answered(kind: Kind): void;
    /**
     * An attempt ended without any frame.
     *
     * @param {number} code with a code of the gateway's, that was an answer
     */
    failed(code: number): void;
    /** Server-Sent Events were welcomed. */
    welcomed(): void;
    /** A WebSocket does not get through. */
    block(): void;
    /** A WebSocket gets through, or is worth a try. */
    unblock(): void;
}
