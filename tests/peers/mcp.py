"""A server of the Model Context Protocol with three tools: mcp.py <mcp|fastmcp> <http|sse> <host:port>.

KIJKO_MCP_KEY, where it is set, must come as a bearer token. /ready answers 200 once it serves.
"""
import os
import sys

import uvicorn

kind, transport, address = sys.argv[1:4]
host, port = address.rsplit(":", 1)
key = os.environ.get("KIJKO_MCP_KEY", "")

if kind == "mcp":
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("Tools")
else:
    from fastmcp import FastMCP

    server = FastMCP("Tools")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def greet(name: str) -> str:
    """Greets a person."""
    return f"Hello, {name}!"


@server.tool()
def now() -> str:
    """Says that it is now."""
    return "now"


if kind == "mcp":
    app = server.sse_app() if transport == "sse" else server.streamable_http_app()
else:
    app = server.http_app(transport=transport, path="/sse" if transport == "sse" else "/mcp/")


async def guarded(scope, receive, send):
    if scope["type"] == "http":
        refused = key and dict(scope["headers"]).get(b"authorization") != f"Bearer {key}".encode()
        if scope["path"] == "/ready" or refused:
            await send({"type": "http.response.start", "status": 200 if scope["path"] == "/ready" else 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
    await app(scope, receive, send)


uvicorn.run(guarded, host=host, port=int(port), log_level="warning")
