import { at } from "../core/call.js";
import { config } from "../core/config.js";

/** The address that starts a reflex. */
export const generateWebhookUrl = (reflexId: string): string =>
  `${config().baseUrl || globalThis.location.origin}/webhooks/reflex/${at(reflexId)}`;
