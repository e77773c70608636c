/**
 * How frames travel: over a WebSocket; or as Server-Sent Events, which get through where a proxy or firewall lets no
 * WebSocket pass, and carry nothing the other way.
 *
 * The events are read by fetch() and not by an EventSource, which hides what this client lives by: the status and the
 * problem of a refusal, and the comments that are the only sign of life of a silent stream. It also comes back by
 * itself, with a rhythm of its own. And fetch() is there in Node.
 */
export type Listener = {
    /**
     * the gateway answered; frames may follow
     */
    opened: () => void;
    /**
     * something came, if only a sign of life
     */
    heard: () => void;
    frame: (text: string) => void;
    /**
     * it is over: a close code, its name, and a
     * sentence if there is one; 1006 where the gateway said nothing
     */
    end: (code: number, reason: string, detail?: string) => void;
};
export type Transport = {
    send: (text: string) => void;
    close: (code?: number) => void;
};
/**
 * @typedef {object} Listener is told by a transport what happens, until close() is called
 * @property {() => void} opened the gateway answered; frames may follow
 * @property {() => void} heard something came, if only a sign of life
 * @property {(text: string) => void} frame
 * @property {(code: number, reason: string, detail?: string) => void} end it is over: a close code, its name, and a
 *   sentence if there is one; 1006 where the gateway said nothing
 */
/**
 * @typedef {object} Transport
 * @property {(text: string) => void} send
 * @property {(code?: number) => void} close
 */
/**
 * @param {new (url: string, protocols?: string[]) => WebSocket} WebSocket
 * @param {URL} url
 * @param {string | undefined} token travels as a subprotocol: a page can set no header here, and URLs are logged
 * @param {Listener} listener
 * @returns {Transport}
 */
export declare function webSocket(WebSocket: new (url: string, protocols?: string[]) => WebSocket, url: URL, token: string | undefined, listener: Listener): Transport;
/**
 * Reads Server-Sent Events. Each event's data is a frame; an id without data becomes the frame
 * `{"type":"position","id":…}`: everything up to there was sent.
 *
 * @param {URL} url
 * @param {string | undefined} token
 * @param {Listener} listener
 * @returns {Transport} send() throws
 */
export declare function eventStream(url: URL, token: string | undefined, listener: Listener): Transport;
/**
 * Splits an event stream into events (WHATWG HTML, section 9.2.6), wherever its chunks begin and end.
 *
 * @param {(name: string, data: string | undefined, id: string | undefined) => void} dispatch is called for each event:
 *   its name (empty: none), its data, and the id that stood beside them. An id alone comes without data.
 * @returns {(bytes: Uint8Array) => void}
 */
export declare function eventParser(dispatch: (name: string, data: string | undefined, id: string | undefined) => void): (bytes: Uint8Array) => void;
