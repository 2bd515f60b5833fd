"""Bring your own LangChain chat model and retriever; Hoptrail keeps the plan and the trace."""

import json

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.retrievers import BaseRetriever

from hoptrail import Hoptrail

NOTES = ["Ada keeps the key of the boathouse.", "The boathouse stands on Lake Orta."]


class Notes(BaseRetriever):
    """Every note that shares a word with the question."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        words = set(query.lower().strip("?").split()) - {"the", "of", "is", "on"}
        return [Document(note) for note in NOTES if words & set(note.lower().strip(".").split())]


def main() -> None:
    plan = {"steps": ["What does Ada keep the key of?", "Where does #1 stand?"]}
    first = {"found": True, "answer": "the boathouse", "passages": [1]}
    second = {"found": True, "answer": "Lake Orta", "passages": [2]}
    replies = [*map(json.dumps, (plan, first, second)), "On Lake Orta [2]"]
    trail = Hoptrail(model=FakeListChatModel(responses=replies), retriever=Notes())
    answer = trail.ask("Where does the building stand that Ada has the key of?")
    print(answer.text)
    trail.close()


if __name__ == "__main__":
    main()
