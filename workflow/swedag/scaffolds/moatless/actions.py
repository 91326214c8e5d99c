"""What a reply may say in each state: one JSON object, with the field names of the released trajectories."""

import json
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

A = TypeVar("A", bound="Action")


class Action(BaseModel):
    model_config = ConfigDict(extra="ignore")

    scratch_pad: str = Field("", description="your thoughts")


class SearchRequest(BaseModel):
    model_config = ConfigDict(extra="ignore")

    file_pattern: str | None = Field(None, description="glob of the files to search")
    query: str | None = Field(None, description="what you look for, in words")
    code_snippet: str | None = Field(None, description="code that must be there literally")
    class_names: list[str] = Field([], description="names of classes")
    function_names: list[str] = Field([], description="names of functions")

    def asks(self) -> bool:
        return bool(self.query or self.code_snippet or self.class_names or self.function_names)


class Search(Action):
    search_requests: list[SearchRequest] = Field([], description="what to search for")
    complete: bool | None = Field(False, description="true when nothing is left to search for")


class FileSpans(BaseModel):
    model_config = ConfigDict(extra="ignore")

    file_path: str = Field(description="path of the file")
    span_ids: list[str] = Field([], description="ids of its spans")


class Identify(Action):
    identified_spans: list[FileSpans] | None = Field(None, description="the relevant files and spans of the results")


class Decision(Action):
    relevant: bool = Field(False, description="whether relevant code was found")
    complete: bool = Field(False, description="whether all of it was found")
    search_suggestions: str | None = Field(None, description="how to find what is missing")


class ApplyChange(Action):
    action: Literal["modify", "review", "finish", "reject"] = Field(description="what to do next")
    instructions: str | None = Field(None, description="the change to make to one span")
    file_path: str | None = Field(None, description="the file of that span")
    span_id: str | None = Field(None, description="the id of that span")
    reject: str | None = Field(None, description="why it cannot be done")
    finish: str | None = Field(None, description="why it is done")


class LineNumberClarification(Action):
    start_line: int = Field(description="first line to change")
    end_line: int = Field(description="last line to change")
    reject: bool | None = Field(None, description="true if the change cannot be made")


def parse(reply: str, kind: type[A]) -> A:
    """The object in a reply, in a code fence or not. ValueError, with what is wrong, for any other reply."""
    start, end = reply.find("{"), reply.rfind("}")
    if start < 0 or end < start:
        raise ValueError("The reply has no JSON object.")
    try:
        return kind.model_validate_json(reply[start : end + 1])
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or 'the object'}: {problem['msg']}" for problem in error.errors()
        ]
        raise ValueError("The JSON object is not as asked for. " + "; ".join(problems)) from error


def schema(kind: type[Action]) -> str:
    return json.dumps(kind.model_json_schema(), indent=1)
