import { config, prefix } from "./config.js";
import { errorOf, KijkoError } from "./error.js";
import { backoff, pause } from "./pause.js";
import { revive, type Plan } from "./revive.js";
import { accessToken, keepTokens, renew, type Tokens } from "./tokens.js";
import type { Options } from "./types.js";

/** What a call consists of besides its method and path. */
export interface Parts {
  body?: unknown;
  query?: object;
  /** No credential is needed, so one that the server refuses is not renewed. */
  open?: boolean;
  /** The answer holds tokens, which are kept. */
  tokens?: boolean;
  dates?: Plan;
  options?: Options;
}

/** at is a value in a path. An empty one would address another route. */
export function at(value: string | number): string {
  if (value === "") {
    throw new KijkoError({ code: "VALIDATION_ERROR", status: 400, message: "An id in the address is empty." });
  }
  return encodeURIComponent(value);
}

/** send makes a call whose answer is JSON, or nothing. */
export async function send<T>(method: string, path: string, parts: Parts): Promise<T> {
  const response = await request(method, path, parts);
  const text = await response.text();
  let value: unknown = text === "" ? undefined : JSON.parse(text);
  if (parts.tokens) {
    keepTokens(value as Tokens);
  }
  if (parts.dates) {
    value = revive(value, parts.dates);
  }
  const total = response.headers.get("X-Total-Count");
  if (total !== null && value !== null && typeof value === "object") {
    totals.set(value, { total: Number(total), hasMore: response.headers.get("X-Has-More") === "true" });
  }
  return value as T;
}

const totals = new WeakMap<object, Total>();

export interface Total {
  total: number;
  hasMore: boolean;
}

/** totalOf tells how many rows there are behind a bare list that a call answered. */
export const totalOf = (list: object): Total | undefined => totals.get(list);

/** download makes a call whose answer is a file. */
export async function download(method: string, path: string, parts: Parts): Promise<File> {
  const response = await request(method, path, parts);
  const disposition = response.headers.get("Content-Disposition") ?? "";
  const encoded = /filename\*=UTF-8''([^;]+)/i.exec(disposition)?.[1];
  const plain = /filename="?([^";]+)/i.exec(disposition)?.[1];
  const name = encoded ? decodeURIComponent(encoded) : (plain ?? path.slice(path.lastIndexOf("/") + 1));
  return new File([await response.blob()], name, { type: response.headers.get("Content-Type") ?? "" });
}

/** stream makes a call that answers event by event. Leaving the loop early ends it. */
export async function* stream<T>(method: string, path: string, parts: Parts): AsyncGenerator<T, void, undefined> {
  const response = await request(method, path, parts, "text/event-stream");
  const reader = response.body!.getReader();
  const decoder = new TextDecoder();
  try {
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      rest += done ? "\n\n" : decoder.decode(value, { stream: true });
      const blocks = rest.replace(/\r\n/g, "\n").split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const event = eventOf(block);
        if (event) {
          yield (parts.dates ? revive(event, parts.dates) : event) as T;
        }
      }
      if (done) {
        return;
      }
    }
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}

function eventOf(block: string): { event: string; data: unknown } | undefined {
  let event = "message";
  const data: string[] = [];
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]+):? ?(.*)$/.exec(line) ?? [];
    if (name === "event") {
      event = value ?? "";
    } else if (name === "data") {
      data.push(value ?? "");
    }
  }
  return data.length > 0 ? { event, data: JSON.parse(data.join("\n")) as unknown } : undefined;
}

/** Codes of a 503 that passes by itself. The others need an operator, or another request. */
const passing = ["SERVICE_UNAVAILABLE", "STORAGE_UNAVAILABLE", "AUTH_UNAVAILABLE", "HTTP_502", "HTTP_503", "HTTP_504"];

/** request makes a call, renews the token once, and repeats what failed for a moment. It gives the successful answer, or throws. */
async function request(method: string, path: string, parts: Parts, accept = "application/json, */*"): Promise<Response> {
  const options = parts.options ?? {};
  const url = config().baseUrl + prefix + path + queryText(parts.query);
  const headers: Record<string, string> = { Accept: accept, ...options.headers };
  const body = bodyOf(parts.body);
  if (typeof body === "string") {
    headers["Content-Type"] = "application/json";
  }
  // Under its key the server does a write once, however often it arrives. Callers without a session have no keys, and a stream has begun.
  const isKeyed = method !== "GET" && !parts.open && accept !== "text/event-stream";
  if (isKeyed) {
    headers["Idempotency-Key"] = options.idempotencyKey ?? randomKey();
  }
  const mayRepeat = method === "GET" || isKeyed;
  let isRenewed = false;
  for (let attempt = 0; ; attempt++) {
    const token = options.token ?? accessToken();
    if (token !== null) {
      headers["Authorization"] = `Bearer ${token}`;
    } else {
      delete headers["Authorization"];
    }
    let failure: KijkoError;
    try {
      const response = await transport(url, { method, headers, body, signal: options.signal }, options.onProgress);
      if (response.ok) {
        return response;
      }
      failure = await errorOf(response);
    } catch (cause) {
      if (options.signal?.aborted) {
        throw cause;
      }
      failure = new KijkoError({ code: "NETWORK_ERROR", status: 0, message: "The server cannot be reached. Try again." }, cause);
    }
    if (failure.status === 401 && token !== null && options.token === undefined && !parts.open && !isRenewed) {
      isRenewed = true;
      if (await renew(token)) {
        continue;
      }
    }
    if (!mayRepeat || attempt >= config().retries || !(failure.status === 0 || passing.includes(failure.code))) {
      throw failure;
    }
    await pause(Math.max(backoff(attempt, 100, 4000), Math.min(failure.retryAfter ?? 0, 4) * 1000), options.signal);
  }
}

function queryText(query: object | undefined): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const item of Array.isArray(value) ? (value as unknown[]) : [value]) {
      if (item !== undefined && item !== null) {
        search.append(name, item instanceof Date ? item.toISOString() : String(item));
      }
    }
  }
  const text = search.toString();
  return text === "" ? "" : `?${text}`;
}

/** bodyOf writes a body: an object with files as a form, another one as JSON. */
function bodyOf(body: unknown): string | FormData | undefined {
  if (body === undefined || body instanceof FormData) {
    return body;
  }
  const isFile = (value: unknown): boolean => value instanceof Blob;
  if (body === null || typeof body !== "object" || !Object.values(body).some((v) => isFile(v) || (Array.isArray(v) && v.some(isFile)))) {
    return JSON.stringify(body);
  }
  const form = new FormData();
  for (const [name, value] of Object.entries(body)) {
    for (const item of Array.isArray(value) ? (value as unknown[]) : [value]) {
      if (item instanceof Blob) {
        form.append(name, item);
      } else if (item !== undefined) {
        form.append(name, typeof item === "string" ? item : JSON.stringify(item));
      }
    }
  }
  return form;
}

/** crypto.randomUUID exists on secure origins only. */
const randomKey = (): string => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

interface Call {
  method: string;
  headers: Record<string, string>;
  body: string | FormData | undefined;
  signal: AbortSignal | undefined;
}

/** transport is fetch, which cannot tell how much of a body has gone out: for a caller that asks, XMLHttpRequest. */
async function transport(url: string, call: Call, onProgress: Options["onProgress"]): Promise<Response> {
  if (!onProgress) {
    return fetch(url, call);
  }
  if (typeof XMLHttpRequest === "undefined") {
    const response = await fetch(url, call);
    onProgress({ sent: 1, total: 1 });
    return response;
  }
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    const stop = () => {
      xhr.abort();
      reject(call.signal?.reason);
    };
    xhr.open(call.method, url);
    xhr.responseType = "blob";
    for (const [name, value] of Object.entries(call.headers)) {
      xhr.setRequestHeader(name, value);
    }
    xhr.upload.onprogress = (event) => onProgress({ sent: event.loaded, total: event.total });
    xhr.onerror = () => reject(new TypeError("The upload failed."));
    xhr.onload = () => {
      const lines = xhr.getAllResponseHeaders().trim().split("\r\n");
      const headers = new Headers(lines.map((line): [string, string] => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]));
      resolve(new Response(xhr.status === 204 ? null : (xhr.response as Blob), { status: xhr.status, headers }));
    };
    xhr.onloadend = () => call.signal?.removeEventListener("abort", stop);
    if (call.signal?.aborted) {
      reject(call.signal.reason);
      return;
    }
    call.signal?.addEventListener("abort", stop);
    xhr.send(call.body);
  });
}
