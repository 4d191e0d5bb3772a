import { config, prefix } from "./config.js";
import { KijkoError } from "./error.js";
import { backoff } from "./pause.js";
import { revive, type Plan } from "./revive.js";
import { accessToken, expiresWithin, renew } from "./tokens.js";

/** The first frame of a socket. */
export interface Hello {
  connectionId: string;
  userId: string;
  organizationId?: string;
  rooms: string[];
  lastEventId: string;
  expiresAt: string;
}

/**
 * connecting: no `hello` yet. connected. reconnecting: lost, and trying again. resting: the work that it watched has ended, or the page
 * disconnected. closed: the server ended it for a reason that a new attempt does not change.
 */
export type SocketStatus = "connecting" | "connected" | "reconnecting" | "resting" | "closed";

/** An event as it arrived. */
export interface SocketEvent<Name extends string = string, Data = unknown> {
  name: Name;
  data: Data;
  timestamp?: Date;
  id?: string;
  room?: string;
  /** The frame restates what is, it is not news. */
  snapshot?: boolean;
}

/** What a socket is about. */
export interface SocketPlan {
  path: string;
  query?: Record<string, string>;
  /** Places of times in the data of events, by name. */
  dates: Record<string, Plan>;
  /** Tells whether the work that is watched has ended with this event. */
  ends?: (event: SocketEvent) => boolean;
}

/** Codes after which a new attempt would meet the same: no access, no such target, the session has ended, a fault of this client. */
const finalCodes = new Map([
  [1003, "PROTOCOL_ERROR"],
  [1007, "PROTOCOL_ERROR"],
  [1009, "PROTOCOL_ERROR"],
  [4000, "PROTOCOL_ERROR"],
  [4001, "UNAUTHENTICATED"],
  [4003, "FORBIDDEN"],
  [4004, "NOT_FOUND"],
  [4010, "SESSION_REVOKED"],
]);

/** How many ids of events are remembered, to drop what a reconnection brings again. The server replays at most 1,000. */
const remembered = 2000;

/**
 * LiveSocket is a socket that survives the loss of its connection, of its token and of its server: it resumes after the last event, and
 * no event reaches a listener twice.
 */
export class LiveSocket<Events extends object> {
  #plan: SocketPlan;
  #socket: WebSocket | undefined;
  #status: SocketStatus = "connecting";
  #listeners = new Map<string, Set<(event: SocketEvent) => void>>();
  #statusListeners = new Set<(status: SocketStatus, reason?: KijkoError) => void>();
  #seen = new Set<string>();
  #cursor: string | undefined;
  #rooms = new Set<string>();
  #attempt = 0;
  #refused: string | null | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #renewedAt = 0;
  #begun: Promise<Hello> | undefined;
  #settle: { resolve: (hello: Hello) => void; reject: (reason: KijkoError) => void } | undefined;
  #wake = () => {
    if (this.#timer !== undefined) {
      clearTimeout(this.#timer);
      this.#open();
    }
  };

  constructor(plan: SocketPlan) {
    this.#plan = plan;
  }

  get status(): SocketStatus {
    return this.#status;
  }

  /** The id of the last event, from which a socket resumes. */
  get lastEventId(): string | undefined {
    return this.#cursor;
  }

  /** connect resolves on the server's `hello`. It rejects when the server refuses the socket before that. */
  connect(): Promise<Hello> {
    if (!this.#begun || this.#status === "resting" || this.#status === "closed") {
      this.#begun = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
      this.#begun.catch(() => undefined); // a page that only listens to the status leaves it unhandled
      this.#attempt = 0;
      this.#refused = undefined;
      this.#tell("connecting");
      globalThis.addEventListener?.("online", this.#wake);
      this.#open();
    }
    return this.#begun;
  }

  /** disconnect ends the socket. No listener of the status is told: a page that reconnects on "not connected" would do so now. */
  disconnect(): void {
    this.#statusListeners.clear();
    this.#rest();
  }

  /** on listens to one event, or with "*" to every one. It returns the function that ends this. */
  on<Name extends keyof Events & string>(name: Name, listener: (event: SocketEvent<Name, Events[Name]>) => void): () => void;
  on(name: "*", listener: (event: SocketEvent) => void): () => void;
  on(name: string, listener: (event: never) => void): () => void {
    const list = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, list);
    list.add(listener as (event: SocketEvent) => void);
    return () => void list.delete(listener as (event: SocketEvent) => void);
  }

  /** onStatus listens to the state of the connection. It returns the function that ends this. */
  onStatus(listener: (status: SocketStatus, reason?: KijkoError) => void): () => void {
    this.#statusListeners.add(listener);
    return () => void this.#statusListeners.delete(listener);
  }

  /** join enters a room, and does so again after each reconnection. */
  join(room: string): void {
    this.#rooms.add(room);
    this.#act({ action: "join", room });
  }

  /** leave leaves a room. */
  leave(room: string): void {
    this.#rooms.delete(room);
    this.#act({ action: "leave", room });
  }

  #act(frame: object): void {
    if (this.#status === "connected") {
      this.#socket?.send(JSON.stringify(frame));
    }
  }

  #tell(status: SocketStatus, reason?: KijkoError): void {
    if (status !== this.#status) {
      this.#status = status;
      for (const listener of this.#statusListeners) {
        listener(status, reason);
      }
    }
  }

  #rest(status: "resting" | "closed" = "resting", reason?: KijkoError): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    globalThis.removeEventListener?.("online", this.#wake);
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close(1000);
    this.#settle?.reject(reason ?? new KijkoError({ code: "CANCELLED", status: 0, message: "The page has disconnected." }));
    this.#settle = undefined;
    this.#tell(status, reason);
  }

  #retry(delay: number): void {
    this.#timer = setTimeout(() => this.#open(), delay);
  }

  async #open(): Promise<void> {
    this.#timer = undefined;
    const settle = this.#settle;
    let token = accessToken();
    try {
      if (token === null || token === this.#refused || expiresWithin(token, 5)) {
        const isRenewed = await renew(token);
        if (!isRenewed) {
          this.#rest("closed", new KijkoError({ code: "UNAUTHENTICATED", status: 401, message: "The session has ended. Sign in again." }));
          return;
        }
        token = accessToken();
      }
    } catch {
      // The server that renews tokens is away: so would the socket's be.
      if (this.#isOpenTo(settle)) {
        this.#retry(backoff(this.#attempt++, 500, 30_000));
      }
      return;
    }
    if (!this.#isOpenTo(settle)) {
      return;
    }
    const query = new URLSearchParams(this.#plan.query);
    if (this.#cursor !== undefined) {
      query.set("lastEventId", this.#cursor);
    }
    const base = config().baseUrl || globalThis.location.origin;
    const socket = new WebSocket(`${base.replace(/^http/, "ws")}${prefix}${this.#plan.path}?${query}`, ["kijko.v1", `bearer.${token}`]);
    this.#socket = socket;
    socket.onmessage = (message) => {
      if (socket === this.#socket) {
        this.#receive(String(message.data));
      }
    };
    socket.onclose = (closed) => {
      if (socket === this.#socket) {
        this.#socket = undefined;
        this.#lose(closed.code, closed.reason, token);
      }
    };
  }

  /** isOpenTo tells whether the page has not disconnected while #open waited. */
  #isOpenTo(settle: unknown): boolean {
    return settle === this.#settle && this.#status !== "resting" && this.#status !== "closed";
  }

  #receive(text: string): void {
    const frame = JSON.parse(text) as Record<string, unknown> & { timestamp?: string; id?: string };
    const name = String(frame.type ?? frame.event);
    const data = frame.data as Record<string, unknown> | undefined;
    if (name === "hello") {
      const hello = data as unknown as Hello;
      this.#attempt = 0;
      this.#refused = undefined;
      const from = this.#cursor;
      this.#cursor ??= hello.lastEventId;
      this.#tell("connected");
      for (const room of this.#rooms) {
        this.#act(from === undefined ? { action: "join", room } : { action: "join", room, lastEventId: from });
      }
      this.#settle?.resolve(hello);
      this.#settle = undefined;
      return;
    }
    if (name === "token_refresh_required") {
      void this.#refreshToken();
      return;
    }
    if (frame.id !== undefined) {
      if (this.#seen.has(frame.id)) {
        return;
      }
      this.#seen.add(frame.id);
      if (this.#seen.size > remembered) {
        this.#seen.delete(this.#seen.values().next().value as string);
      }
      if (this.#cursor === undefined || isAfter(frame.id, this.#cursor)) {
        this.#cursor = frame.id;
      }
    }
    const plan = this.#plan.dates[name];
    const event: SocketEvent = {
      name,
      data: plan ? revive(data, plan) : data,
      timestamp: frame.timestamp === undefined ? undefined : new Date(frame.timestamp),
      id: frame.id,
      room: frame.room as string | undefined,
      snapshot: frame.snapshot as boolean | undefined,
    };
    for (const key of [name, "*"]) {
      for (const listener of this.#listeners.get(key) ?? []) {
        listener(event);
      }
    }
    if (this.#plan.ends?.(event)) {
      this.#rest();
    }
  }

  /**
   * The credential of an open socket ends in five minutes: a new one keeps it open. Where tokens live no longer than that, the server asks at
   * once again, and is answered when it asks a minute before the end.
   */
  async #refreshToken(): Promise<void> {
    if (Date.now() - this.#renewedAt < 60_000) {
      return;
    }
    this.#renewedAt = Date.now();
    const token = accessToken();
    try {
      if ((token !== null && !expiresWithin(token, 360)) || (await renew(token))) {
        this.#act({ action: "authenticate", token: accessToken() });
      }
    } catch {
      // The server asks once more a minute before the end, and closes with 4001 at the end.
    }
  }

  #lose(code: number, reason: string, token: string | null): void {
    // An expired token is renewed, and the socket opened with the new one. Never twice without a `hello` between them, and never with the same.
    if (code === 4001 && this.#refused === undefined && token !== null) {
      this.#refused = token;
      this.#tell("reconnecting");
      void this.#open();
      return;
    }
    const final = finalCodes.get(code);
    if (final !== undefined) {
      this.#rest("closed", new KijkoError({ code: final, status: code, message: reason || `The server closed the socket with ${code}.` }));
      return;
    }
    if (this.#status === "connected") {
      this.#tell("reconnecting");
    }
    // 4029: the server asks for 30 s.
    this.#retry(code === 4029 ? 30_000 + backoff(0, 5000, 5000) : backoff(this.#attempt++, 500, 30_000));
  }
}

/** isAfter compares decimal ids of any length. */
const isAfter = (a: string, b: string): boolean => a.length > b.length || (a.length === b.length && a > b);
