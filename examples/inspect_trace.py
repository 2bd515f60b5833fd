"""Look at what a run did: what was asked, who answered and why, what was read and what used."""

from pathlib import Path

from hoptrail import Hoptrail

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    trail = Hoptrail(docs=CORPUS)
    trace = trail.ask("Where was the composer of Finlandia born?").trace
    for step in trace.steps:
        call = step.calls[-1]
        print(f"{step.id}. {step.question}  ->  asked as: {step.asked}")
        print(f"   {step.answer or step.status} ({call.backend}: {call.reason}), {step.ms:.0f} ms")
        for item in step.evidence:
            scores = ", ".join(f"{name} {score:.2f}" for name, score in item.scores.items())
            print(f"   {'●' if item.cited else '○'} {item.rank} {item.passage.title} ({scores})")
    print(f"critical path {trace.critical_path_ms():.0f} of {trace.usage.wall_ms:.0f} ms")
    print(f"the whole record: {trail.assembly.journal.trace_path(trace.run_id)}")
    trail.close()


if __name__ == "__main__":
    main()
