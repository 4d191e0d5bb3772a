// Works with a server of MCP as an assistant does, like client.py: client.mjs <sdk|client> <address>. The key is KIJKO_MCP_KEY. sdk is the
// package of version 1, which begins with an initialization; client is that of version 2, which speaks the newest protocol.
const [kind, address] = process.argv.slice(2);
const requestInit = { headers: { Authorization: `Bearer ${process.env.KIJKO_MCP_KEY}` } };
const saw = (what) => console.log(JSON.stringify(what));
const text = (result) => {
  if (result.isError) throw new Error(JSON.stringify(result));
  return result.content.map((part) => part.text).join("");
};

const [{ Client }, { StreamableHTTPClientTransport }] = kind === "sdk"
  ? [await import("@modelcontextprotocol/sdk/client/index.js"), await import("@modelcontextprotocol/sdk/client/streamableHttp.js")]
  : [await import("@modelcontextprotocol/client"), await import("@modelcontextprotocol/client")];
const client = new Client({ name: "test", version: "1" }, kind === "sdk" ? {} : { versionNegotiation: { mode: "auto" } });
const transport = new StreamableHTTPClientTransport(new URL(address), { requestInit });
await client.connect(transport);
saw({ protocol: kind === "sdk" ? transport.protocolVersion : client.getNegotiatedProtocolVersion() });
const call = (name, args, options) =>
  kind === "sdk" ? client.callTool({ name, arguments: args }, undefined, options) : client.callTool({ name, arguments: args }, options);

saw({ tools: (await client.listTools()).tools.map((tool) => tool.name).sort() });
const context = /^Shop: .* id (\S+)$/m.exec(text(await call("list_contexts", {})))[1];
saw({ search: text(await call("search_code", { context: "Shop", query: "amount total" })) });
const callees = text(await call("walk_graph", { context: "Shop", symbol: "checkout", relation: "callees" }));
const [, path, first, last] = /-> calls total \(function\) (\S+):(\d+)-(\d+)/.exec(callees);
saw({ definition: text(await call("read_file", { context: "Shop", file: path, startLine: Number(first), endLine: Number(last) })) });
const progress = [];
const onprogress = (news) => progress.push(news.message);
saw({ run: text(await call("run_skill", { skill: "Praise a topic", input: { topic: kind } }, { onprogress })), progress });
saw({ resource: (await client.readResource({ uri: `kijko://contexts/${context}/files/${path}` })).contents[0].text });
saw({ prompt: (await client.getPrompt({ name: "praise-a-topic", arguments: { topic: "tea" } })).messages[0].content.text });
await client.close();
