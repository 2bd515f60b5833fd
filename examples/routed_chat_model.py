"""Use the routed chat model alone, as the model of any LangChain program.

It asks Hugging Face or Ollama, whichever is up, and says on each answer who gave it and why.
"""

from hoptrail import AllBackendsFailed, RoutedChatModel, load_settings
from hoptrail.assembly import Assembly


def main() -> None:
    settings = load_settings(backends="huggingface,ollama")
    model: RoutedChatModel = Assembly(given_settings=settings).router
    try:
        for chunk in model.stream("Name one river in Finland, in one short sentence."):
            print(chunk.text, end="", flush=True)
        told = chunk.response_metadata["hoptrail"]
        print(f"\n-- {told['backend']}:{told['model']}, because: {told['reason']}")
    except AllBackendsFailed as nobody:
        print("Nobody answered.")
        for cause in nobody.causes:
            print(f"-- {cause.backend}: {cause}")


if __name__ == "__main__":
    main()
