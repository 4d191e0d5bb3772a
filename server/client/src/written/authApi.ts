import { send } from "../core/call.js";
import { config } from "../core/config.js";
import { dropTokens } from "../core/tokens.js";
import type { Options } from "../core/types.js";

/** End the session, here also when the server cannot be reached. `POST /auth/logout` */
export async function logout(options?: Options): Promise<void> {
  try {
    const token = config().storage.getItem("refresh_token");
    await send("POST", "/auth/logout", { body: token === null ? undefined : { refresh_token: token }, open: true, options });
  } finally {
    dropTokens();
  }
}
