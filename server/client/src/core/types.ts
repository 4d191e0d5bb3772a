import type { components, operations } from "../schema.js";

/** The schemas of the document, by name. */
export type Schemas = components["schemas"];

/** The operations of the document, by operationId. */
export type OperationId = keyof operations;

/** How one call differs from the usual. */
export interface Options {
  /** Ends the call: it throws the signal's reason. */
  signal?: AbortSignal;
  /** Another credential than that of the signed-in person, for example an API key. It is never renewed. */
  token?: string;
  /** The key under which the server does a write once. Without it each call has its own, under which its repetitions run. */
  idempotencyKey?: string;
  /** Further headers, for example `Prefer` or `If-Match`. */
  headers?: Record<string, string>;
  /** Told how much of the body has been sent. In a browser only; elsewhere it is told once, at the end. */
  onProgress?: (progress: { sent: number; total: number }) => void;
}

/** What a caller may give where the API takes T: a time also as text. */
export type Input<T> = T extends Date
  ? Date | string
  : T extends Blob
    ? T
    : T extends readonly (infer Item)[]
      ? Input<Item>[]
      : T extends object
        ? { [Member in keyof T]: Input<T[Member]> }
        : T;

type Content<T> = T extends { content: infer C } ? C : never;
type Sent<C> =
  | (C extends { "application/json": infer J } ? J : never)
  | (C extends { "multipart/form-data": infer F } ? F | FormData : never);

/** The body of an operation. Where it takes a form, an object with files is sent as one. */
export type Body<Id extends OperationId> = Input<
  Sent<Content<operations[Id] extends { requestBody?: infer R } ? NonNullable<R> : never>>
>;

/** The query of an operation. */
export type Query<Id extends OperationId> = Input<
  NonNullable<operations[Id] extends { parameters: { query?: infer Q } } ? Q : never>
>;

type Successful<R> = R[keyof R & (200 | 201 | 202 | 204)];
type Received<T> = T extends { content: { "application/json": infer J } } ? J : undefined;

/** The answer of an operation, its times as Date. */
export type Answer<Id extends OperationId> = Received<Successful<operations[Id]["responses"]>>;
