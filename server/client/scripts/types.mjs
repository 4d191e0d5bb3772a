// Writes src/schema.ts, the types of the API, from its document: the one at KIJKO_OPENAPI (an address or a file), by default that of the
// server of "make run".
import { readFile, writeFile } from "node:fs/promises";
import openapiTS, { astToString } from "openapi-typescript";
import ts from "typescript";

const source = process.env.KIJKO_OPENAPI ?? "http://127.0.0.1:8000/openapi.json";
const read = async () => {
  if (!/^https?:/.test(source)) return readFile(source, "utf8");
  const answer = await fetch(source);
  if (!answer.ok) throw new Error(`${source} answered ${answer.status}`);
  return answer.text();
};
const document = JSON.parse(await read().catch((cause) => {
  throw new Error(`The document at ${source} cannot be read. Start the server with "make run", or set KIJKO_OPENAPI to an address or a file.`, { cause });
}));

// Times of members with an underscore stay text (src/dates.ts leaves them, too).
const keepText = (schema) => {
  if (schema === null || typeof schema !== "object") return;
  for (const [name, member] of Object.entries(schema.properties ?? {})) {
    if (name.includes("_") && member.$ref === "#/components/schemas/Timestamp") schema.properties[name] = { type: "string" };
  }
  for (const part of Object.values(schema)) keepText(part);
};
keepText(document);

const name = (text) => ts.factory.createTypeReferenceNode(text);
const syntax = await openapiTS(document, {
  defaultNonNullable: false, // a member with a default need not be sent
  emptyObjectsUnknown: true,
  rootTypes: true,
  rootTypesNoSchemaPrefix: true,
  transform: (schema) => {
    if (schema.format === "date-time") return name("Date");
    if (schema.format === "binary") return name("Blob");
  },
});
await writeFile(new URL("../src/schema.ts", import.meta.url), `// Made by "npm run types" from the document; do not edit.\n${astToString(syntax)}`);
