/**
 * The newest id that a client has seen, from which its next connection resumes; and its copy in a storage, from which the
 * next page does.
 */
export declare class Place {
    #private;
    /**
     * @param {import("./types.js").Options["storage"]} storage
     * @param {string} key
     */
    constructor(storage: import("./types.js").Options["storage"], key: string);
    get id(): string | undefined;
    /**
     * Moves on, never back.
     *
     * @param {string | undefined} id
     */
    keep(id: string | undefined): void;
    /** @param {string | undefined} id */
    set(id: string | undefined): void;
}
