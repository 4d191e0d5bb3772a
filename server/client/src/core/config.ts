/** Where the tokens of the signed-in person are kept. localStorage is one. */
export type TokenStore = Pick<Storage, "getItem" | "setItem" | "removeItem">;

/** Settings of the whole package. */
export interface Config {
  /** The API's origin, without a slash at its end; by default that of the page. */
  baseUrl: string;
  storage: TokenStore;
  /** How often a call is repeated after a failure that passes: no answer, or a server that is being restarted. */
  retries: number;
  /** Called once when the session has ended and cannot be renewed: show the sign-in page. */
  onSignedOut: () => void;
}

/** memory keeps tokens as long as the program runs. */
function memory(): TokenStore {
  const kept = new Map<string, string>();
  return {
    getItem: (name) => kept.get(name) ?? null,
    setItem: (name, value) => void kept.set(name, value),
    removeItem: (name) => void kept.delete(name),
  };
}

/** A browser can refuse storage to a page; reading the property throws then. */
function pageStorage(): TokenStore {
  try {
    return globalThis.localStorage ?? memory();
  } catch {
    return memory();
  }
}

let current: Config | undefined;

export const config = (): Config =>
  (current ??= { baseUrl: "", storage: pageStorage(), retries: 6, onSignedOut: () => undefined });

/** configure changes settings. It is called before the first call, where the defaults do not fit. */
export function configure(changes: Partial<Config>): void {
  current = { ...config(), ...changes };
}

/** The base path of every operation. */
export const prefix = "/api/v1";
