import { send, stream } from "../core/call.js";
import { KijkoError } from "../core/error.js";
import type { Answer, Body, Options, Schemas } from "../core/types.js";
import { callClaude } from "../services/claudeApi.js";

/** The models of this installation. `GET /ai/models` */
export const listModels = (options?: Options): Promise<Answer<"listModels">> => send("GET", "/ai/models", { options });

/** Whether a model can be asked. `GET /ai/models` */
export const isApiKeyConfigured = async (options?: Options): Promise<boolean> => (await listModels(options)).configured;

/** The server repeats what is worth repeating, so this is callClaude. */
export const callClaudeWithRetry = (body: Body<"createMessage">, options?: Options): Promise<Answer<"createMessage">> => callClaude(body, options);

/** Ask a model, told each piece of the text as it comes. It resolves to the whole answer. `POST /ai/messages` */
export async function streamClaude(
  body: Body<"createMessage">,
  onText: (text: string) => void,
  options?: Options,
): Promise<Schemas["ModelAnswer"]> {
  for await (const event of stream<Schemas["MessageStreamEvent"]>("POST", "/ai/messages", { body, options })) {
    if (event.event === "text") {
      onText(event.data.content);
    } else if (event.event === "done") {
      return event.data.response;
    } else {
      throw new KijkoError({ code: event.data.code, message: event.data.message, status: event.data.statusCode });
    }
  }
  throw new KijkoError({ code: "NETWORK_ERROR", status: 0, message: "The answer ended early. Ask again." });
}
