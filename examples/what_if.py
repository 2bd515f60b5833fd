"""What if a step had answered something else? Only what rests on it is asked again."""

from pathlib import Path

from hoptrail import Change, Hoptrail

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    trail = Hoptrail(docs=CORPUS)
    was = trail.ask("Which river flows through the city where the author of Dracula was born?")
    would_be = trail.rerun(was.run_id, Change(step=2, answer="Prague"))
    print(f"It is: {was.short}. It would be: {would_be.short}.")
    for step in would_be.trace.steps:
        how = "given" if step.given else "kept" if step.from_run else "asked anew"
        print(f"-- step {step.id}: {step.asked} {step.answer} ({how})")
    trail.close()


if __name__ == "__main__":
    main()
