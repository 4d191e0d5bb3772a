import { config, prefix } from "./config.js";
import { errorOf, KijkoError } from "./error.js";
import { backoff, pause } from "./pause.js";

// The names under which the frontend keeps its tokens.
const accessName = "access_token";
const refreshName = "refresh_token";

export interface Tokens {
  access_token: string;
  refresh_token: string;
}

/** accessToken is the token of the signed-in person, or null. */
export const accessToken = (): string | null => config().storage.getItem(accessName);

/** isSignedIn tells whether there is a session to try. */
export const isSignedIn = (): boolean => accessToken() !== null;

export function keepTokens(tokens: Tokens): void {
  const { storage } = config();
  storage.setItem(accessName, tokens.access_token);
  storage.setItem(refreshName, tokens.refresh_token);
}

export function dropTokens(): void {
  const { storage } = config();
  storage.removeItem(accessName);
  storage.removeItem(refreshName);
}

let flight: Promise<boolean> | undefined;

/**
 * renew replaces an access token that the server refused or will refuse soon: one refresh for all calls that need it, in all tabs. It is
 * true when there is another token now, false when the session has ended. A server that cannot be reached ends no session: renew throws.
 */
export function renew(refused: string | null): Promise<boolean> {
  return (flight ??= alone(() => refresh(refused)).finally(() => (flight = undefined)));
}

/** Tabs share their tokens, so one of them refreshes. */
async function alone(work: () => Promise<boolean>): Promise<boolean> {
  return globalThis.navigator?.locks ? await navigator.locks.request("kijko-tokens", work) : work();
}

async function refresh(refused: string | null): Promise<boolean> {
  const access = accessToken();
  if (access !== refused) {
    return access !== null; // another call or tab was first
  }
  const token = config().storage.getItem(refreshName);
  const failure = token === null ? undefined : await exchange(token);
  if (failure === null) {
    return true;
  }
  if (failure && (failure.status === 0 || failure.status === 429 || failure.status >= 500)) {
    throw failure;
  }
  if (access !== null) {
    dropTokens();
    config().onSignedOut();
  }
  return false;
}

/** exchange gets a new pair. A repetition is safe: for 30 s the server accepts the same token again. */
async function exchange(token: string): Promise<KijkoError | null> {
  for (let attempt = 0; ; attempt++) {
    let failure: KijkoError;
    try {
      const response = await fetch(config().baseUrl + prefix + "/auth/refresh", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ refresh_token: token }),
      });
      if (response.ok) {
        keepTokens((await response.json()) as Tokens);
        return null;
      }
      failure = await errorOf(response);
    } catch (cause) {
      failure = new KijkoError({ code: "NETWORK_ERROR", status: 0, message: "The server cannot be reached. Try again." }, cause);
    }
    if ((failure.status !== 0 && failure.status < 500) || attempt >= config().retries) {
      return failure;
    }
    await pause(backoff(attempt, 100, 4000));
  }
}

/** expiresWithin tells whether a token ends in that many seconds. A token that is no JWT tells nothing. */
export function expiresWithin(token: string, seconds: number): boolean {
  try {
    const part = (token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/");
    const { exp } = JSON.parse(atob(part)) as { exp?: number };
    return typeof exp === "number" && exp * 1000 < Date.now() + seconds * 1000;
  } catch {
    return false;
  }
}
