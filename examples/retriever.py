"""Hoptrail's documents as a LangChain retriever: in a chain, and with the evidence of many hops.

The chain's model is scripted here; any chat model takes its place.
"""

from pathlib import Path

from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough

from hoptrail import Hoptrail


def joined(documents: list[Document]) -> str:
    return "\n\n".join(document.page_content for document in documents)


def main() -> None:
    trail = Hoptrail(docs=Path(__file__).parent / "corpus")
    prompt = ChatPromptTemplate.from_template("From these notes:\n{notes}\n\n{question}")
    model = FakeListChatModel(responses=["In Hämeenlinna."])
    notes = trail.as_retriever(k=3) | joined
    chain = {"notes": notes, "question": RunnablePassthrough()} | prompt | model | StrOutputParser()
    print(chain.invoke("Where was Jean Sibelius born?"))

    # The question names neither passage's subject: one search cannot find both, steps can.
    many_hops = trail.as_retriever(multi_hop=True)
    for document in many_hops.invoke("Where was the composer of Finlandia born?"):
        mark = "●" if document.metadata["cited"] else "○"
        print(mark, f"step {document.metadata['step']}:", document.metadata["title"])
    trail.close()


if __name__ == "__main__":
    main()
