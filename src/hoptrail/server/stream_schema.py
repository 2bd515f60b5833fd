"""What the streams of server-sent events hold, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter

from hoptrail.events import Event, RunFinished, StepFinished

Schema = dict[str, Any]

_COMPONENT = "#/components/schemas/{model}"
PROBLEM: Schema = {"$ref": "#/components/schemas/Problem"}


def stream_of(description: str, data: Schema, example: str, *, last: str = "") -> Schema:
    """Declare a response that is a stream; ``data`` is the JSON of one event.

    ``last`` is what the last event says instead, if it is no JSON.
    """
    told: Schema = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": data,
    }
    event = {
        "type": "object",
        "description": "One event",
        "properties": {
            "event": {"type": "string", "description": "Its type"},
            "id": {"type": "string", "description": "For `Last-Event-ID`"},
            "data": {"anyOf": [{"const": last}, told]} if last else told,
        },
        "required": ["data"],
    }
    content = {"text/event-stream": {"schema": event, "example": example}}
    return {"description": description, "content": content}


def either(*kinds: Schema) -> Schema:
    """Give the schema of what is one of these."""
    return {"anyOf": list(kinds)}


def holding(**fields: object) -> Schema:
    """Give the schema of an object that has these fields, each of a model or of one value."""
    told = {name: _of_field(value) for name, value in fields.items()}
    return {"type": "object", "properties": told, "required": list(fields)}


def of_run() -> Schema:
    """Give the schema of a run's events, as `event_json` of event_stream.py tells them."""
    plain = [kind for kind in get_args(Event) if kind not in (StepFinished, RunFinished)]
    return either(
        *map(_of_event, plain),
        holding(type="STEP_FINISHED", step={"$ref": _COMPONENT.format(model="StepBody")}),
        holding(
            type="RUN_FINISHED",
            status={"type": "string"},
            answer={"$ref": _COMPONENT.format(model="AnswerBody")},
        ),
        {"allOf": [holding(type="RUN_ERROR"), PROBLEM]},
    )


def of_model(model: type[BaseModel], *without: str) -> dict[str, Schema]:
    """Give the schemas of a model's fields, but for some."""
    fields: dict[str, Schema] = model.model_json_schema(ref_template=_COMPONENT)["properties"]
    return {name: schema for name, schema in fields.items() if name not in without}


def _of_event(kind: type) -> Schema:
    """Give the schema of an event that is told as it is."""
    fields: Schema = TypeAdapter(kind).json_schema(mode="serialization", ref_template=_COMPONENT)[
        "properties"
    ]
    fields.pop("trace", None)  # the record itself is at /runs/{id}/trace.json
    return holding(**{**fields, "type": fields["type"]["default"]})


def _of_field(value: object) -> object:
    return value if isinstance(value, dict) else {"const": value}
