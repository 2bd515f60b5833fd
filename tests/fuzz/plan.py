"""The plan a model wrote, read whole and while it streams."""

from __future__ import annotations

from hoptrail.plan import MAX_QUESTION, Plan, PlanReader, Step, read_plan, references

WORDS = (
    '{"steps": [', "[", "]", "{", "}", '"', "\\", "\\u", "\n", "1. ", "2) ", "Step 2: ", "#1", "#2",
    "#9", "$1", "{{1}}", "Who is A?", "Where was he born?", ", ", "?", "```json\n", "<think>",
    "</think>", "- ", '{"id": 1, "question": "', '"depends_on": [2]', "answer to step 1", "？",
)  # fmt: skip
SEEDS = (
    b'\0{"steps": ["Who composed Finlandia?", "Where was #1 born?"]}',
    b'\1```json\n[{"id": 1, "question": "Who?"}, {"id": 2, "question": "Why #1?"}]\n```',
    b"\2<think>Hm.</think>1. Who is A?\n2. Where was #1 born?\n",
    b"\3Plan\n- Who is A?\n- When did she die?",
    b'\4{"1": "Who?", "step 2": {"question": "Why?", "needs": "1"}',
)
QUESTION = "Which river runs through the birthplace of the composer of Finlandia?"


def check(data: bytes) -> None:
    """Any text gives a sound plan, and each of its first steps early, however it is cut."""
    size = 1 + data[0] % 7 if data else 1
    text = data[1:].decode("utf-8", "surrogateescape")
    for first_id, known, limit in ((1, (), 8), (4, (1, 3), 2)):
        whole = read_plan(text, QUESTION, first_id=first_id, known=known, max_steps=limit)
        _check_sound(whole, first_id, known, limit)
        early = []
        for step_size in (size, 1):
            reader = PlanReader(QUESTION, first_id=first_id, known=known, max_steps=limit)
            pieces = [text[at : at + step_size] for at in range(0, len(text), step_size)]
            early.append([step for piece in pieces for step in reader.feed(piece)])
            assert reader.finish() == whole
        assert early[0] == early[1] == list(whole.steps[: len(early[0])])


def _check_sound(plan: Plan, first_id: int, known: tuple[int, ...], limit: int) -> None:
    assert 1 <= len(plan.steps) <= limit
    assert [step.id for step in plan.steps] == [first_id + n for n in range(len(plan.steps))]
    for step in plan.steps:
        assert step.question.strip()
        assert len(step.question) <= 5 * MAX_QUESTION
        assert set(references(step.question)) <= set(step.depends_on)
        assert all(need in known or first_id <= need < step.id for need in step.depends_on)
        assert Step.model_validate_json(step.model_dump_json()) == step
    assert len(plan.repairs) <= 22
