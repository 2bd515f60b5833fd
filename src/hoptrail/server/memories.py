"""What is remembered of a user: look at it, add to it, ask it, and have it forgotten."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hoptrail.fact import Fact
from hoptrail.server.gone import cancelled_when_gone
from hoptrail.server.problems import refusals
from hoptrail.server.routing import router
from hoptrail.server.served import Serving

routes = router("Memory", "/memory")

_MOST_RECALLED = 100


def _named(user: str) -> str:
    if not user.strip():
        raise ValueError("a user has a name")
    return user


UserName = Annotated[
    str,
    Field(
        min_length=1, max_length=200, pattern=r"\S", description="Whose memory", examples=["anna"]
    ),
    AfterValidator(_named),
]
FactText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=10_000,
        pattern=r"[^\s\x00-\x1f\x7f-\x9f]",
        examples=["My cat is called Ofelie."],
    ),
]


class RememberRequest(BaseModel):
    """Something to remember."""

    text: FactText
    user: UserName = "default"


class RecallRequest(BaseModel):
    """What to recall facts for."""

    model_config = ConfigDict(strict=True)

    text: FactText
    k: int = Field(5, ge=1, le=_MOST_RECALLED, description="At most so many")
    user: UserName = "default"


class ForgetRequest(BaseModel):
    """The words that say what to forget."""

    text: FactText
    user: UserName = "default"


class RememberedFact(Fact):
    """A fact that is, or was, remembered."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "5f2d8a90c1",
                    "text": "My cat is called Ofelie.",
                    "said_at": "2026-11-22T09:15:00+00:00",
                    "similarity": None,
                }
            ]
        }
    )


class Facts(BaseModel):
    """Facts of one user."""

    user: str = Field(examples=["anna"])
    facts: list[RememberedFact]


class Forgotten(BaseModel):
    """How many facts were forgotten."""

    user: str = Field(examples=["anna"])
    forgotten: int = Field(examples=[3])


@routes.get("")
async def list_facts(served: Serving, user: Annotated[UserName, Query()] = "default") -> Facts:
    """Give everything that is remembered, what was said last first."""
    return _facts(user, await served.trail.assembly.memory(user).facts())


@routes.post("", status_code=201)
async def remember(asked: RememberRequest, served: Serving) -> RememberedFact:
    """Remember a fact; one that is known already is refreshed."""
    fact = await served.trail.assembly.memory(asked.user).remember(asked.text)
    return _told(fact)


@routes.post("/recall", responses=refusals(502, 503))
async def recall(asked: RecallRequest, request: Request, served: Serving) -> Facts:
    """Give the facts nearest to a text, nearest first; none that is far."""
    async with cancelled_when_gone(request):
        found = await served.trail.assembly.memory(asked.user).recall(asked.text, asked.k)
    return _facts(asked.user, found)


@routes.post("/forget")
async def forget_about(asked: ForgetRequest, served: Serving) -> Facts:
    """Forget the facts that say all the words of a text, and give them."""
    gone = await served.trail.assembly.memory(asked.user).forget_about(asked.text)
    return _facts(asked.user, gone)


@routes.delete("/{fact_id}", responses=refusals(404))
async def forget(
    fact_id: str, served: Serving, user: Annotated[UserName, Query()] = "default"
) -> RememberedFact:
    """Forget one fact, and give it."""
    return _told(await served.trail.assembly.memory(user).forget(fact_id))


@routes.delete("")
async def forget_all(served: Serving, user: Annotated[UserName, Query()]) -> Forgotten:
    """Forget everything of a user, who has to be named."""
    count = await served.trail.assembly.memory(user).forget_all()
    return Forgotten(user=user, forgotten=count)


def _facts(user: str, facts: list[Fact]) -> Facts:
    return Facts(user=user, facts=[_told(fact) for fact in facts])


def _told(fact: Fact) -> RememberedFact:
    return RememberedFact.model_validate(fact.model_dump())
