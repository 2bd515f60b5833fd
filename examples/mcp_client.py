"""Start `hoptrail mcp` as any MCP client does, and ask it; needs `pip install "hoptrail[mcp]"`.

A client hands few variables on: add `env={"HF_TOKEN": ...}` for a server that needs one.
"""

import asyncio
import sys
from pathlib import Path

from mcp import Client
from mcp.client.stdio import StdioServerParameters

CORPUS = str(Path(__file__).parent / "corpus")
SERVER = StdioServerParameters(
    command=sys.executable, args=["-m", "hoptrail", "mcp", "--docs", CORPUS]
)


async def show(progress: float, total: float | None, message: str | None) -> None:
    print(f"{progress:g} of {total:g}: {message}" if total else message)


async def main() -> None:
    async with Client(SERVER) as client:
        print("tools:", ", ".join(tool.name for tool in (await client.list_tools()).tools))
        asked = {"question": "Where was the composer of Finlandia born?"}
        told = await client.call_tool("ask", asked, progress_callback=show)
        answer = told.structured_content or {}
        print(answer["answer"])
        for number, citation in enumerate(answer["citations"], start=1):
            print(f"[{number}] {citation['title']}: “{citation['quote']}”")


if __name__ == "__main__":
    asyncio.run(main())
