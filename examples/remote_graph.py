"""Use a Hoptrail that runs elsewhere, through LangGraph's `RemoteGraph`: the events come here.

Start the server in the root of this repository, and leave it running:

    pip install "langgraph-cli[inmem]"
    HOPTRAIL_DOCS=examples/corpus langgraph dev --no-browser
"""

import sys

import httpx
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_sync_client

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:2024"
QUESTION = "Which river flows through the birthplace of the composer of The Magic Flute?"


def main() -> None:
    try:
        httpx.get(f"{ADDRESS}/ok").raise_for_status()
    except httpx.HTTPError:
        print(f"No LangGraph server answers at {ADDRESS}. To start one:\n{__doc__}")
        return
    with get_sync_client(url=ADDRESS) as client:
        remote = RemoteGraph("iterative", sync_client=client)
        for event in remote.stream({"question": QUESTION}, stream_mode="custom"):
            if event["type"] == "STEP_FINISHED":
                print(event["step"]["asked"], "->", event["step"]["answer"])
            elif event["type"] == "RUN_FINISHED":
                print(event["trace"]["answer"])


if __name__ == "__main__":
    main()
