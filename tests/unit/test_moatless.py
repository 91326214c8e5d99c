"""Moatless: spans, index, edits, what leads from one state to the next, and a recorded run gone through again."""

import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swedag.scaffolds import MoatlessSettings, begin
from swedag.scaffolds.moatless import edits
from swedag.scaffolds.moatless.edits import EditError
from swedag.scaffolds.moatless.index import Hit, Index, build, is_test
from swedag.scaffolds.moatless.spans import render, spans_of
from swedag.scaffolds.protocol import Ask, Compute, ContextFullError, Finish, Reply, Step
from tests.unit.repository import Repository
from tests.unit.test_scaffolds import INSTANCE, drive

RECORDED = Path(__file__).parents[1] / "data/trajectories"
SHOP = '''"""A shop."""
import os
from decimal import Decimal

LIMIT = 3


class Cart:
    """What is bought."""

    size = 0

    @property
    def total(self):
        return sum(self.prices)

    def add(self, price):
        self.prices.append(price)


def parse_price(text):
    # a comment
    return Decimal(text)


RATE = 2
'''
FILES = {
    "shop/cart.py": SHOP,
    "shop/mail.py": "def send_invoice(address):\n    return address\n",
    "tests/test_cart.py": "def test_total():\n    assert send_invoice\n",
}


# --- spans


def test_spans_are_functions_classes_and_what_stands_between() -> None:
    assert [(span.id, span.first, span.last) for span in spans_of(SHOP)] == [
        ("imports", 1, 5),
        ("Cart", 8, 18),
        ("Cart.total", 13, 15),
        ("Cart.add", 17, 18),
        ("parse_price", 21, 23),
        ("impl:26", 26, 26),
    ]
    assert spans_of("def f(:\n") == ()


def test_a_file_is_shown_by_its_spans_with_gaps_marked() -> None:
    assert render("shop/cart.py", SHOP, ["Cart.add", "impl:26"], show_ids=True) == (
        "shop/cart.py\n```python\n    # ... rest of the code\n<span id='Cart.add'>\n    def add(self, price):\n"
        "        self.prices.append(price)\n# ... rest of the code\n<span id='impl:26'>\nRATE = 2\n```"
    )


def test_of_a_large_class_only_head_and_signatures_are_shown() -> None:
    large = "class Big:\n    size = 1\n\n" + "".join(
        f"    def m{n}(self):\n        return '{'x' * 400}'\n\n" for n in range(12)
    )
    shown = render("a.py", large, ["Big"])
    assert "size = 1" in shown
    assert "def m11(self):" in shown
    assert "xxx" not in shown


# --- index


@pytest.fixture
def index() -> Index:
    return build(archive(FILES))


def archive(files: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return data.getvalue()


def test_tests_are_not_indexed(index: Index) -> None:
    assert sorted(index.files) == ["shop/cart.py", "shop/mail.py"]
    assert all(map(is_test, ("tests/test_a.py", "a/test_b.py", "conftest.py", "**/tests/**/*.py", "test*")))
    assert not any(map(is_test, ("shop/contest.py", "shop/cart.py", "**/*.py")))


@pytest.mark.parametrize(
    ("classes", "functions", "pattern", "found"),
    [
        (["Cart"], [], None, ["Cart"]),
        ([], ["add"], None, ["Cart.add"]),
        (["Cart"], ["total"], None, ["Cart.total"]),
        ([], ["Cart.total"], None, ["Cart.total"]),
        ([], ["parse_price"], "**/shop/*.py", ["parse_price"]),
        ([], ["nothing"], None, []),
        (["Cart"], ["parse_price"], None, ["Cart", "parse_price"]),
    ],
)
def test_names_are_found_exactly(
    index: Index, classes: list[str], functions: list[str], pattern: str | None, found: list[str]
) -> None:
    assert [hit.span_id for hit in index.by_name(classes, functions, pattern)] == found


def test_a_snippet_is_found_in_its_innermost_span(index: Index) -> None:
    assert index.by_snippet("return sum(self.prices)", None) == [Hit("shop/cart.py", "Cart.total")]
    assert index.by_snippet("return product(self.prices)", None) == []


def test_words_rank_the_span_that_shares_most_of_them_first(index: Index) -> None:
    assert next(iter(index.by_words("the price of a text is parsed wrongly", None))) == Hit(
        "shop/cart.py", "parse_price"
    )
    assert next(iter(index.by_words("invoices: sendInvoice", None))) == Hit("shop/mail.py", "send_invoice")
    assert list(index.by_words("zebra", None)) == []


def test_a_pattern_that_no_file_matches_is_given_up(index: Index) -> None:
    assert list(index.by_words("invoice", "**/none/*.py")) == list(index.by_words("invoice", None))
    assert not list(index.by_words("invoice", "shop/cart.py"))


# --- edits


def test_an_edit_drops_blank_ends_and_lines_that_follow_anyway() -> None:
    text = "a = 1\nb = 2\nc = 3\nd = 4\n"
    assert edits.replaced(text, 2, 2, "\n\nb = 5\n\n") == "a = 1\nb = 5\nc = 3\nd = 4\n"
    assert edits.replaced(text, 2, 2, "b = 5\nc = 3\nd = 4") == "a = 1\nb = 5\nc = 3\nd = 4\n"
    assert edits.replaced(text, 2, 3, "\n") == "a = 1\nd = 4\n"


@pytest.mark.parametrize(
    ("after", "complaint"),
    [
        ("x = 1\n", "same code"),
        ("x = (\n", "would not be valid Python"),
        ("x = 2\n# ... rest of the code\n", "comments in place of code"),
    ],
)
def test_an_edit_that_cannot_be_kept_is_refused(after: str, complaint: str) -> None:
    with pytest.raises(EditError, match=complaint):
        edits.check("x = 1\n", after)


def test_only_errors_that_are_new_are_told() -> None:
    before = "x = unknown\n"
    assert edits.new_problems("a.py", before, "x = unknown\ny = other\n") == ["F821: Undefined name `other` (line 2)"]
    assert edits.new_problems("a.py", before, "\nx = unknown\n") == []


# --- the states


def search(**request: Any) -> str:
    return json.dumps({"scratch_pad": "", "search_requests": [request]})


def identify(path: str, *ids: str) -> str:
    return json.dumps({"scratch_pad": "", "identified_spans": [{"file_path": path, "span_ids": ids}]})


def modify(path: str, span: str) -> str:
    return json.dumps(
        {"scratch_pad": "", "action": "modify", "instructions": "Mend it.", "file_path": path, "span_id": span}
    )


def lines(first: int, last: int) -> str:
    return json.dumps({"scratch_pad": "That line.", "start_line": first, "end_line": last})


FOUND = json.dumps({"relevant": True, "complete": True})
FINISH = json.dumps({"action": "finish", "finish": "It is mended."})
FIND_ADD = (search(function_names=["add"]), identify("shop/cart.py", "Cart.add"), FOUND)
EDIT_ADD = "<replace>\n    def add(self, price):\n        self.prices.append(price or 0)\n"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path, FILES)


def run(repository: Repository, *replies: Any, **settings: Any) -> tuple[list[Ask], Finish]:
    waiting = iter(replies)
    steps, finish = drive(begin(INSTANCE, MoatlessSettings(**settings)), answers(repository, lambda: next(waiting)))
    assert list(waiting) == []
    return [step for step in steps if isinstance(step, Ask)], finish


def answers(repository: Repository, reply: Callable[[], Any]) -> Callable[[Step], Any]:
    def answer(step: Step) -> Any:
        if isinstance(step, Ask):
            said = reply()
            return Reply(said) if isinstance(said, str) else said
        return step.function() if isinstance(step, Compute) else repository.answer(step)

    return answer


def test_a_run_finds_plans_edits_and_finishes(repository: Repository) -> None:
    asks, finish = run(repository, *FIND_ADD, modify("shop/cart.py", "Cart.add"), EDIT_ADD, FINISH)
    first, second, third, fourth, fifth, sixth = (ask.messages[-1].content for ask in asks)
    assert "total returns a wrong result" in first
    assert "<span id='Cart.add'>" in second.split("<search_results>")[1]
    assert "def add(self, price):" in third.split("<file_context>")[1]
    assert "<span id='Cart.add'>" in fourth
    assert fifth.endswith("<search>\n    def add(self, price):\n        self.prices.append(price)\n</search>")
    assert "+        self.prices.append(price or 0)\n" in sixth.split("<diff>")[1].split("</diff>")[0]
    assert [ask.json for ask in asks] == [True, True, True, True, False, True]
    assert asks[4].stop == ("</replace>",)
    assert (finish.exit, finish.remark) == ("submitted", "")
    assert "-        self.prices.append(price)\n+        self.prices.append(price or 0)\n" in finish.patch


def test_each_call_stands_in_the_trajectory_with_its_own_system_message(repository: Repository) -> None:
    asks, finish = run(repository, *FIND_ADD, modify("shop/cart.py", "Cart.add"), EDIT_ADD, FINISH)
    roles = "".join(message.role[0] for message in finish.conversation)
    assert roles == "sua" * 5 + "su" + "aua"
    systems = [message.content for message in finish.conversation if message.role == "system"]
    assert systems == [ask.messages[0].content for ask in asks]


def test_a_full_search_of_words_reaches_what_is_not_named(repository: Repository) -> None:
    asks, _ = run(
        repository, search(query="parse the price of a text"), identify("shop/cart.py", "parse_price"), FOUND, FINISH
    )
    assert "<span id='parse_price'>" in asks[1].messages[-1].content


def test_search_may_end_at_once_and_goes_on_where_too_little_was_found(repository: Repository) -> None:
    none = json.dumps({"scratch_pad": "All wrong.", "identified_spans": []})
    more = json.dumps({"relevant": True, "complete": False, "search_suggestions": "Look at mails."})
    asks, _ = run(
        repository,
        search(class_names=["Cart"]),
        none,
        search(function_names=["add"]),
        identify("shop/cart.py", "Cart.add"),
        more,
        search(function_names=["send_invoice"]),
        identify("shop/mail.py", "send_invoice"),
        more,
        FINISH,
    )
    assert "All wrong." in asks[2].messages[-1].content
    assert "Look at mails." in asks[5].messages[-1].content
    assert [message.role for message in asks[5].messages] == ["system", *["user", "assistant"] * 2, "user"]
    plan = asks[-1].messages[-1].content
    assert "Cart.add" in plan
    assert "send_invoice" in plan


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ("I would search for add.", "no JSON object"),
        ('{"search_requests": 3}', "search_requests: Input should be a valid array"),
        (search(file_pattern="*.py"), "Each search needs a query"),
        (search(query="x", file_pattern="tests/*.py"), "Tests cannot be searched"),
    ],
)
def test_an_unusable_reply_is_answered_with_what_is_wrong(repository: Repository, bad: str, complaint: str) -> None:
    asks, _ = run(repository, bad, "```json\n" + json.dumps({"complete": True}) + "\n```", FINISH)
    assert complaint in asks[1].messages[-1].content
    assert asks[1].messages[-2].content == bad


def test_the_third_unusable_reply_in_a_row_ends_the_run(repository: Repository) -> None:
    asks, finish = run(repository, *FIND_ADD, modify("shop/cart.py", "Cart.add"), EDIT_ADD, "a", "b", "c")
    assert len(asks) == 8
    assert (finish.exit, bool(finish.patch)) == ("stuck", True)
    assert finish.remark.startswith("3 unusable replies in a row; the last: The reply has no JSON object")
    assert finish.conversation[-1].content == "c"


def test_searches_that_find_nothing_end_the_run_too(repository: Repository) -> None:
    asks, finish = run(repository, *[search(class_names=["Zebra"])] * 3)
    assert "found nothing" in asks[1].messages[-1].content
    assert (finish.exit, finish.repeated) == ("stuck", True)


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [
        (
            modify("shop/mail.py", "send_invoice"),
            "shop/mail.py is not in the file context. These files are: shop/cart.py",
        ),
        (modify("shop/cart.py", "parse_price"), "no span parse_price in the file context. The file's are: Cart.add"),
        (json.dumps({"action": "modify", "file_path": "shop/cart.py"}), "needs `instructions`"),
        (json.dumps({"action": "review"}), "Nothing can be reviewed"),
        (json.dumps({"action": "dance"}), "action: Input should be"),
    ],
)
def test_a_change_must_be_of_a_span_in_the_context(repository: Repository, plan: str, complaint: str) -> None:
    asks, _ = run(repository, *FIND_ADD, plan, FINISH)
    assert complaint in asks[-1].messages[-1].content


def test_a_rejected_issue_and_a_review_after_a_change_end_the_run(repository: Repository) -> None:
    reject = json.dumps({"action": "reject", "reject": "It is no bug."})
    _, finish = run(repository, *FIND_ADD, reject)
    assert (finish.exit, finish.remark, finish.patch) == ("submitted", "rejected: It is no bug.", "")
    review = json.dumps({"action": "review"})
    _, finish = run(repository, *FIND_ADD, modify("shop/cart.py", "Cart.add"), EDIT_ADD, review)
    assert (finish.exit, bool(finish.patch)) == ("submitted", True)


def test_a_class_of_a_known_method_may_be_edited_in_part(repository: Repository) -> None:
    asks, finish = run(
        repository,
        *FIND_ADD,
        modify("shop/cart.py", "Cart"),
        lines(8, 18),
        lines(8, 10),
        lines(17, 30),
        lines(18, 18),
        EDIT_ADD,
        FINISH,
        max_edit_tokens=30,
        max_unusable_replies=4,
    )
    assert "    18\t        self.prices.append(price)" in asks[4].messages[-1].content
    whole, head, outside = (asks[place].messages[-1].content for place in (5, 6, 7))
    assert "all the lines" in whole
    assert "only the head of the class" in head
    assert "must be within 8 and 18" in outside
    assert "<search>\n    def add(self, price):\n" in asks[8].messages[-1].content
    assert "That line." in asks[8].messages[-1].content
    assert finish.patch.count("\n+") == 2


def test_an_edit_may_be_refused_and_is_retried_when_it_breaks_the_file(repository: Repository) -> None:
    asks, finish = run(
        repository,
        *FIND_ADD,
        modify("shop/cart.py", "Cart.add"),
        "<replace>\n    def add(self, price:\n",
        "<reject>\nNo.\n",
        FINISH,
    )
    assert "would not be valid Python" in asks[5].messages[-1].content
    assert "The change was refused: No." in asks[6].messages[-1].content
    assert finish.patch == ""


def test_new_errors_are_shown_to_the_planner(repository: Repository) -> None:
    edit = "<replace>\n    def add(self, price):\n        self.prices.append(prize)\n"
    asks, _ = run(repository, *FIND_ADD, modify("shop/cart.py", "Cart.add"), edit, FINISH)
    assert "<lint_errors>\n- F821: Undefined name `prize` (line 18)\n</lint_errors>" in asks[-1].messages[-1].content


LONG = "def bill(prices):\n" + "".join(f"    step_{n} = {n}\n" for n in range(20)) + "    return sum(prices) - 1\n"
PATCH = """diff --git a/shop/bill.py b/shop/bill.py
--- a/shop/bill.py
+++ b/shop/bill.py
@@ -19,4 +19,4 @@ def bill(prices):
     step_17 = 17
     step_18 = 18
     step_19 = 19
-    return sum(prices) - 1
+    return sum(prices)
diff --git a/shop/cart.py b/shop/cart.py
--- a/shop/cart.py
+++ b/shop/cart.py
@@ -15,7 +15,7 @@ class Cart:
         return sum(self.prices)
 
     def add(self, price):
-        self.prices.append(price)
+        self.prices.append(price or 0)
 
 
 def parse_price(text):
"""


def test_a_run_through_every_state_and_back_ends_in_the_patch_of_its_replies(tmp_path: Path) -> None:
    repository = Repository(tmp_path, FILES | {"shop/bill.py": LONG})
    replies = [
        search(query="the price of a bill"),
        identify("shop/bill.py", "bill"),
        json.dumps({"relevant": True, "complete": False, "search_suggestions": "Where prices are added."}),
        search(class_names=["Cart"], function_names=["add"]),
        identify("shop/cart.py", "Cart.add"),
        FOUND,
        modify("shop/bill.py", "bill"),
        lines(17, 22),
        "<replace>\n    step_15 = 15\n    step_16 = 16\n    step_17 = 17\n    step_18 = 18\n    step_19 = 19\n"
        "    return sum(price)\n",
        modify("shop/bill.py", "bill"),
        lines(18, 22),
        "<replace>\n    step_16 = 16\n    step_17 = 17\n    step_18 = 18\n    step_19 = 19\n    return sum(prices)\n",
        modify("shop/cart.py", "Cart.add"),
        EDIT_ADD,
        FINISH,
    ]
    asks, finish = run(repository, *replies, max_edit_tokens=60)
    asked = [ask.messages[-1].content for ask in asks]
    assert "Where prices are added." in asked[3]
    assert asked[7].rstrip().endswith("</code>")
    assert "    22\t    return sum(prices) - 1" in asked[7]
    assert "<lint_errors>\n- F821: Undefined name `price` (line 22)\n</lint_errors>" in asked[9]
    assert "return sum(price)\n</search>" in asked[11]
    assert "<lint_errors>" not in asked[12]
    assert (finish.exit, finish.remark, finish.repeated) == ("submitted", "", False)
    assert re.sub(r"^index .*\n", "", finish.patch, flags=re.M) == PATCH


def test_plans_and_transitions_are_limited(repository: Repository) -> None:
    again = [
        reply for n in range(2) for reply in (modify("shop/cart.py", "Cart.add"), EDIT_ADD.replace("or 0", f"or {n}"))
    ]
    _, finish = run(repository, *FIND_ADD, *again, max_visits=2)
    assert (finish.exit, finish.remark) == ("max_turns", "too many visits of state plan")
    _, finish = run(repository, *FIND_ADD, max_transitions=3)
    assert (finish.exit, finish.remark) == ("max_turns", "too many changes of state")


def test_a_full_context_ends_the_run(repository: Repository) -> None:
    _, finish = run(repository, ContextFullError("9000 tokens"))
    assert (finish.exit, finish.remark, finish.patch) == ("context", "9000 tokens", "")


# --- a recorded run


def test_the_replies_of_a_recorded_run_lead_to_its_actions_and_changes(tmp_path: Path) -> None:
    """The run edits twice. The place of its second edit was that of the file before the first, whose end is 11 lines
    too far by then: it dropped two more methods without a reply that says so. That cannot come about here, where spans
    are read anew after each edit; so the lines are given by hand, all other replies are the recorded ones."""
    recorded = json.loads((RECORDED / "moatless_two_edits.json").read_text())
    plan, edit, second_plan, second_edit, finish = (step["actions"][0] for step in recorded["transitions"][:5])
    place = recorded["transitions"][3]["properties"]
    path, source = plan["output"]["file_path"], (RECORDED / "pytest_evaluate.txt").read_text()
    repository = Repository(tmp_path, {path: source})
    gone = plan["output"]["end_line"] - plan["output"]["start_line"] + 1
    first, last = place["start_line"], place["end_line"] - gone
    replies = iter(
        [
            search(code_snippet="def cached_eval("),
            identify(path, "cached_eval", "MarkEvaluator._istrue"),
            FOUND,
            planned(plan),
            edit["action"]["content"],
            planned(second_plan),
            lines(first, last),
            second_edit["action"]["content"],
            json.dumps({"action": "finish", "finish": finish["output"]["message"]}),
        ]
    )
    # The method is longer than may be rewritten whole, as it was for the run.
    steps, finished = drive(
        begin(INSTANCE, MoatlessSettings(max_edit_tokens=320)), answers(repository, lambda: next(replies))
    )
    asks = [step.messages[-1].content for step in steps if isinstance(step, Ask)]
    before = source.split("\n")
    after = [*before[: plan["output"]["start_line"] - 1], *before[plan["output"]["end_line"] :]]
    assert asks[4].endswith(searched(before, plan["output"]["start_line"], plan["output"]["end_line"]))
    assert recorded_change(edit) in asks[5]
    assert asks[7].endswith(searched(after, first, last))
    assert hunks(asks[8])[0] == hunks(recorded_change(second_edit))[0]
    assert finished.exit == "submitted"
    assert hunks(finished.patch) == hunks(recorded["info"]["submission"])[:2]


def planned(step: dict[str, Any]) -> str:
    return json.dumps({"scratch_pad": step["action"]["thoughts"], "action": "modify", **step["action"]["action"]})


def searched(source: list[str], first: int, last: int) -> str:
    return "<search>\n" + "\n".join(source[first - 1 : last]) + "\n</search>"


def recorded_change(step: dict[str, Any]) -> str:
    return str(step["output"]["message"]).split("```diff\n")[1].split("```")[0].rstrip("\n")


def hunks(diff: str) -> list[list[str]]:
    """The lines of each hunk, without blank lines at its end and what follows a fence."""
    return [part.split("\n</diff>")[0].rstrip().split("\n") for part in re.split(r"^@@.*\n", diff, flags=re.M)[1:]]


def test_a_recorded_reply_at_its_recorded_lines_gives_the_recorded_difference() -> None:
    recorded = json.loads((RECORDED / "moatless_two_edits.json").read_text())
    source = (RECORDED / "pytest_evaluate.txt").read_text()
    for step in recorded["transitions"]:
        if step["name"] == "EditCode":
            place, action = step["properties"], step["actions"][0]
            after = edits.replaced(
                source, place["start_line"], place["end_line"], edits.block(action["action"]["content"])
            )
            assert hunks(edits.diff(place["file_path"], source, after)) == hunks(recorded_change(action))
            source = after
