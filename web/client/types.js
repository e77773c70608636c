/**
 * The shapes that the client's files share. The contract is proto/PROTOCOL.md; names here are the ones it uses.
 */

/**
 * @typedef {object} Message
 * @property {string} [id] the place in the stream; missing on ephemeral messages
 * @property {string} channel
 * @property {string} event
 * @property {any} data
 * @property {string} sender
 * @property {string} time RFC 3339, UTC
 */

/**
 * @typedef {"connecting" | "open" | "waiting" | "closed"} State
 * `open` means welcomed by the gateway. `waiting` is the pause before the next attempt. `closed` is final until open()
 * is called: either close() was called, or the gateway said that coming back is no use.
 */

/**
 * @typedef {object} StateChange
 * @property {State} state
 * @property {number} attempt how many attempts have failed since the connection was last steady
 * @property {number} [delay] milliseconds until the next attempt, when waiting
 * @property {number} [code] close code, when waiting or closed; 1006 where none arrived
 * @property {string} [reason] the close code's name
 * @property {string} [detail] what the gateway's error frame said about it
 */

/** @typedef {{type: "welcome", connection: string, heartbeat: number, channels: string[], resumed: boolean, id: string}} Welcome */
/** @typedef {{type: "subscribed", channel: string, resumed: boolean, id: string}} Subscribed */
/** @typedef {{type: "unsubscribed", channel: string, reason?: string}} Unsubscribed */
/** @typedef {{type: "authenticated", subject: string, expires: string}} Authenticated */
/** @typedef {{type: "gap", reason: "expired" | "epoch" | "damaged" | "limit", since: string, id: string, channel?: string}} Gap */
/**
 * @typedef {{code: string, detail: string, channel?: string}} Fault
 * An error frame, or one of the client's own: `bad-frame` (what came is not JSON), `no-token` (the token function
 * failed), `no-connection` (the platform refuses to connect to that URL at all), `load-failed` (the load function of a
 * follow() failed; it is called again).
 */

/**
 * @typedef {object} Events
 * @property {Message} message
 * @property {StateChange} state
 * @property {Welcome} welcome each time the connection is open
 * @property {Welcome} resumed the connection is open, and everything missed follows
 * @property {Gap} gap something was missed for good
 * @property {Subscribed} subscribed for each channel, once it is followed and what was missed has come
 * @property {Unsubscribed} unsubscribed
 * @property {Authenticated} authenticated
 * @property {Fault} error
 */

/**
 * @typedef {object} Options
 * @property {string[]} [channels] channels and patterns to follow, beside those in the URL; none at all: `broadcast`
 * @property {string | (() => string | undefined | Promise<string | undefined>)} [token] a JWT. A function is asked at
 *   every connect and shortly before the token expires; with a plain string an expired token ends the connection. It
 *   travels as a header or as a WebSocket subprotocol, and never in a URL.
 * @property {string} [since] an id, `all` or `last`: where to begin as long as no id is known
 * @property {Pick<Storage, "getItem" | "setItem" | "removeItem">} [storage] keeps the newest id across page loads, and
 *   then wins over `since`. sessionStorage, not localStorage: tabs with different channels must not share an id.
 * @property {"auto" | "websocket" | "sse"} [transport] `auto`, the default: WebSocket, and where two attempts in a row got
 *   no answer, Server-Sent Events in turn with it, until one is welcomed. It stays with the events that got through,
 *   also on the next page if there is `storage`, and looks every few minutes whether a WebSocket does by now.
 * @property {new (url: string, protocols?: string[]) => WebSocket} [WebSocket] the class to use where there is no global
 *   one (Node before 22); without any there are only Server-Sent Events
 */

/**
 * @typedef {object} Connection everything that belongs to one connection and dies with it. Times are of
 *   performance.now().
 * @property {import("./choice.js").Kind} kind
 * @property {import("./transport.js").Transport} [transport] missing while the token is fetched
 * @property {string} [token]
 * @property {string} [since] what the URL asked for
 * @property {Set<string>} names what it follows, or was asked to
 * @property {Set<string>} unfit names for which the URL had no room
 * @property {Set<string>} unconfirmed names that stand in the URL as `channel`, and have no `subscribed` yet
 * @property {string} [ahead] the newest id of channels that are still behind the others
 * @property {boolean} [answered] whether any frame came
 * @property {number} [welcomed] when the welcome frame came
 * @property {number} heard when anything came last
 * @property {number} heartbeat milliseconds
 * @property {boolean} [ended]
 * @property {Fault} [error] the last error frame; it explains the close code that has its name
 * @property {import("./pings.js").Pings} pings
 * @property {number} frames sent in the second that began at `second`
 * @property {number} second
 * @property {ReturnType<typeof setTimeout>} [pace] until more frames may be sent
 * @property {ReturnType<typeof setTimeout>} [opening] until a WebSocket is open
 * @property {ReturnType<typeof setTimeout>} [watchdog]
 * @property {ReturnType<typeof setTimeout>} [refresh]
 * @property {ReturnType<typeof setTimeout>} [recheck] of Server-Sent Events: until it is time to look for a WebSocket
 * @property {import("./transport.js").Transport} [probe] a WebSocket that looks whether it gets through
 */

export {};
