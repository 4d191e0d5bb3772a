"""Works with a server of MCP as an assistant does: client.py <mcp|legacy|fastmcp> <address>. The key is KIJKO_MCP_KEY.

It lists the tools, searches, follows a call to its definition, reads it, runs a skill with progress, reads a resource and fills a prompt. Each
line of its output is a JSON object with one thing that it saw.
"""
import asyncio
import json
import os
import re
import sys

kind, address = sys.argv[1:3]
key = os.environ["KIJKO_MCP_KEY"]


def saw(**what):
    print(json.dumps(what), flush=True)


def text(result):
    assert not getattr(result, "is_error", getattr(result, "isError", False)), result
    return "".join(part.text for part in result.content)


async def work(client, call, protocol):
    saw(protocol=protocol())
    tools = await client.list_tools()
    saw(tools=sorted(tool.name for tool in getattr(tools, "tools", tools)))
    contexts = text(await call("list_contexts", {}))
    context = re.search(r"^Shop: .* id (\S+)$", contexts, re.M).group(1)
    saw(search=text(await call("search_code", {"context": "Shop", "query": "amount total"})))
    callees = text(await call("walk_graph", {"context": "Shop", "symbol": "checkout", "relation": "callees"}))
    path, first, last = re.search(r"-> calls total \(function\) (\S+):(\d+)-(\d+)", callees).groups()
    saw(definition=text(await call("read_file", {"context": "Shop", "file": path, "startLine": int(first), "endLine": int(last)})))
    heard = []

    async def progress(done, total, message):
        heard.append(message)

    ran = text(await call("run_skill", {"skill": "Praise a topic", "input": {"topic": kind}}, progress))
    saw(run=ran, progress=heard)
    file = await client.read_resource(f"kijko://contexts/{context}/files/{path}")
    saw(resource=getattr(file, "contents", file)[0].text)
    prompt = await client.get_prompt("praise-a-topic", {"topic": "tea"})
    saw(prompt=prompt.messages[0].content.text)


async def official(mode):
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=60) as http:
        async with Client(streamable_http_client(address, http_client=http), mode=mode) as client:
            await work(client, lambda name, arguments, progress=None: client.call_tool(name, arguments, progress_callback=progress),
                       lambda: client.protocol_version)


async def fast():
    from fastmcp import Client
    from fastmcp.client.transports import StreamableHttpTransport

    async with Client(StreamableHttpTransport(address, auth=key)) as client:
        await work(client, lambda name, arguments, progress=None: client.call_tool(name, arguments, progress_handler=progress),
                   lambda: client.protocol_version)


asyncio.run({"mcp": lambda: official("auto"), "legacy": lambda: official("legacy"), "fastmcp": fast}[kind]())
