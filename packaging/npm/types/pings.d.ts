/**
 * Pings of one connection that wait for their pong, oldest first.
 */
export declare class Pings {
    #private;
    /**
     * @param {() => void} send
     * @returns {Promise<number>} the round trip in milliseconds; rejected if the connection ends first
     */
    ask(send: () => void): Promise<number>;
    /** @param {number} heard when the pong came */
    answered(heard: number): void;
    ended(): void;
}
