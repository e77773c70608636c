/**
 * State and stream without a race, see Herald.follow(). The order does it: first the subscription, whose `subscribed` names
 * a place in the stream; then the load, during which messages wait. Whatever changed before that place is in what was
 * loaded, whatever changed later comes as a message.
 */
/**
 * @param {import("./herald.js").Herald} client
 * @param {import("./emitter.js").Emitter} events of the client
 * @param {string} channel
 * @param {{load: (id: string | undefined, signal: AbortSignal) => any, state?: (state: any) => void, message?: (message: import("./types.js").Message) => void}} handlers
 * @param {string | undefined} confirmed the id of the channel's subscription, if the client follows it already
 * @returns {() => void}
 */
export declare function follow(client: import("./herald.js").Herald, events: import("./emitter.js").Emitter, channel: string, { load, state, message }: {
    load: (id: string | undefined, signal: AbortSignal) => any;
    state?: (state: any) => void;
    message?: (message: import("./types.js").Message) => void;
}, confirmed: string | undefined): () => void;
