"""Hold a conversation that is kept, with a memory that other conversations share.

With HF_TOKEN set, or Ollama running, a language model answers; without one the built-in reader
repeats what it was told. Who asks has a memory of their own, in a file under Hoptrail's home.
"""

from hoptrail import Hoptrail


def main() -> None:
    trail = Hoptrail()
    for thread, message in (
        ("monday", "My dog is called Rex, and I live in Prague."),
        ("tuesday", "What is my dog called?"),
        ("tuesday", "What do you know about me?"),
        ("tuesday", "Forget my dog."),
    ):
        answer = trail.chat(message, thread_id=thread, user="example")
        print(f"{thread} > {message}")
        print(answer.text.partition("\n\n")[0])
        for fact in answer.trace.steps[0].earlier:
            print(f"  -- recalled: {fact.answer} ({fact.similarity})")
    trail.close()


if __name__ == "__main__":
    main()
