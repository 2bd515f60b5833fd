"""Tools in steps: what a tool returned is a passage to cite; the model is scripted here."""

from pathlib import Path

from langchain_core.messages import AIMessage

from hoptrail import Hoptrail
from hoptrail.request import StepRequest
from hoptrail.testing import Asked, ScriptedChatModel, script, step_reply, tool_call
from hoptrail.tools import calculator, date_difference

QUESTION = "For how many days did the composer of The Magic Flute live?"
LIVED = "1756-01-27 to 1791-12-05"
PLAN = ["When was Wolfgang Amadeus Mozart born, and when did he die?", "How many days are #1?"]
scripted = script(PLAN, {PLAN[0]: LIVED}, "13096 days [2]\n\nMozart lived from 1756 to 1791 [1].")


def respond(asked: Asked) -> AIMessage | BaseException | str:
    request = asked.request
    if not (isinstance(request, StepRequest) and request.question.startswith("How many days")):
        return scripted(asked)
    if request.evidence[-1].passage.source == "tool:date_difference":
        return step_reply("13096 days", passages=[len(request.evidence)])
    return tool_call("date_difference", start="1756-01-27", end="1791-12-05")


def main() -> None:
    docs, model = Path(__file__).parent / "corpus", ScriptedChatModel(respond=respond)
    trail = Hoptrail(docs=docs, model=model, tools=[calculator, date_difference])
    answer = trail.ask(QUESTION)
    print(answer.text)
    for citation in answer.citations:
        print(f"{citation.title}: {citation.quote}")
    trail.close()


if __name__ == "__main__":
    main()
