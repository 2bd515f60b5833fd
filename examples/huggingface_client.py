"""Use Hugging Face alone, for a chat or for vectors, without a trail.

``client.sync`` waits; the client itself has the same methods as coroutines.
"""

from hoptrail import get_huggingface_client
from hoptrail.errors import BackendError


def main() -> None:
    client = get_huggingface_client()
    status = client.sync.status()
    print(f"{status.model} at {status.host}: {status.state}")
    if not status.available:
        print(f"-- {status.reason}: {status.fix}")
        return
    try:
        vector = client.sync.generate_embedding("The Vltava flows through Prague.")
        print(f"A vector of {len(vector)} numbers by {status.embedding_model}")
        for piece in client.sync.stream_chat([("user", "Name one river in Finland.")]):
            print(piece.get("text", "\n"), end="", flush=True)
    except BackendError as error:
        print(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
