/**
 * The rules of proto/PROTOCOL.md that need no connection: names, ids, close codes, sizes, delays.
 */
export declare const MAX_NAMES = 100;
export declare const MAX_FRAME: number;
export declare const MAX_URL: number;
/**
 * Why a name is neither a channel nor a pattern; undefined if it is one. For a literal channel see isPattern.
 *
 * @param {string} name
 * @returns {string | undefined} a sentence for people
 */
export declare function channelFault(name: string): string | undefined;
/**
 * @param {string} name a valid name
 * @returns {boolean} whether it has wildcards, so that one can follow it but not publish to it
 */
export declare function isPattern(name: string): boolean;
/**
 * @param {string} pattern a valid channel or pattern
 * @param {string} channel
 * @returns {boolean} whether the pattern matches the channel
 */
export declare function covers(pattern: string, channel: string): boolean;
/**
 * Whether id is to replace kept. Ids are EPOCH-SEQUENCE. Of one epoch the larger sequence is newer, compared as text
 * since 64 bits do not fit into a number. Another epoch is another stream: the gateway only ever sends ids of the one
 * that it has now, so that one wins, whichever clock made them.
 *
 * @param {string} id
 * @param {string | undefined} kept
 */
export declare function isNewer(id: string, kept: string | undefined): boolean;
/**
 * Whether to reconnect after this close code.
 *
 * @param {number} code
 */
export declare function comesBack(code: number): boolean;
/**
 * How long to wait before the next attempt: anything up to a ceiling that doubles each time. The whole range is used
 * ("full jitter"), so that the clients of a gateway that died do not come back in waves.
 *
 * @param {number} attempt counted from 0
 * @returns {number} milliseconds
 */
export declare function backoff(attempt: number): number;
/**
 * @param {string} token a JWT
 * @returns {number | undefined} when it expires, Unix milliseconds, if it can be read
 */
export declare function expiry(token: string): number | undefined;
/**
 * Whether this may be a JWT. Anything else has no way into a header or subprotocol.
 *
 * @param {string} token
 */
export declare function isToken(token: string): boolean;
/**
 * Names in groups of at most MAX_NAMES and about maxBytes, in order. Names are ASCII.
 *
 * @param {string[]} names
 * @param {number} maxBytes
 */
export declare function batches(names: string[], maxBytes: number): string[][];
