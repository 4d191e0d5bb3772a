import { Blob as NodeBlob, File as NodeFile } from "node:buffer";
import { createHmac, webcrypto } from "node:crypto";
import { configure, keepTokens, KijkoError } from "@kijko/client";

// Node 18 has these under other names.
globalThis.File ??= NodeFile;
globalThis.Blob ??= NodeBlob;
globalThis.crypto ??= webcrypto;

export const start = () => configure({ retries: 0 });

/** source writes a value as TypeScript. */
function source(value) {
  if (value === undefined) return "undefined";
  if (value instanceof Date) return `new Date(${JSON.stringify(value)})`;
  if (value instanceof File) return `new File([], ${JSON.stringify(value.name)})`;
  if (Array.isArray(value)) return `[${value.map(source).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    return `{ ${Object.entries(value).map(([name, member]) => `${JSON.stringify(name)}: ${source(member)}`).join(", ")} }`;
  }
  return JSON.stringify(value);
}

const kept = new Map();

/** answer is what an earlier call gave. */
export const answer = (name) => kept.get(name);

/** run makes a call and prints what came of it. The server is away for some. */
export async function run(name, call, isAway) {
  configure({ baseUrl: isAway ? "http://127.0.0.1:9" : process.env.KIJKO_URL });
  // Calls that answer tokens replace those of the caller.
  keepTokens({ access_token: process.env.KIJKO_TOKEN, refresh_token: "none" });
  try {
    let value = call();
    if (Symbol.asyncIterator in value) {
      const events = [];
      for await (const event of value) events.push(event);
      value = events;
    }
    value = await value;
    kept.set(name, value);
    console.log(JSON.stringify({ Name: name, Answer: source(value) }));
  } catch (failure) {
    if (!(failure instanceof KijkoError)) throw failure;
    const { code, message, status, field, details, requestId } = failure;
    console.log(JSON.stringify({ Name: name, Code: code, Problem: source({ code, message, status, field, details, requestId }) }));
  }
}

/** code is the one that an authenticator shows (RFC 6238). */
export function code(secret) {
  const bits = [...secret.replace(/=+$/, "")].map((letter) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(letter).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const digest = createHmac("sha1", key).update(step).digest();
  const at = digest[19] & 15;
  return String((digest.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}
