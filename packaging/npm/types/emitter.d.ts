/**
 * Handlers by the type of what they are told.
 */
export declare class Emitter {
    #private;
    /**
     * @param {string} type
     * @param {(detail: any) => void} handler
     */
    on(type: string, handler: (detail: any) => void): void;
    /**
     * @param {string} type
     * @param {(detail: any) => void} handler
     */
    off(type: string, handler: (detail: any) => void): void;
    /**
     * @param {string} type
     * @param {any} detail
     */
    emit(type: string, detail: any): void;
}
/**
 * Calls a handler. What it throws is reported as uncaught, and harms nobody else.
 *
 * @template T
 * @param {((detail: T) => void) | undefined} handler
 * @param {T} detail
 */
export declare function call<T>(handler: ((detail: T) => void) | undefined, detail: T): void;
