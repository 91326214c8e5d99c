import json
from collections import Counter

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

from swedag.artifacts import write_jsonl
from swedag.errors import SwedagError
from swedag.grades import Grade
from swedag.judgement import answer, fit, opening, question, transcript
from swedag.trajectory import Message, Rollout
from swedag.verifier import probability
from swedag.verifier_data import VerifierDataSettings, balance, main, short_enough


def rollout(instance, run, patch="", messages=None):
    return Rollout(
        instance_id=instance, run=run, policy="p", scaffold="s", seed=0, temperature=1,
        messages=messages or [Message(role="user", content="issue"), Message(role="assistant", content="reply")],
        patch=patch or f"{run}", exit="submitted", turns=1, prompt_tokens=1, completion_tokens=1, seconds=0,
    )  # fmt: skip


def judged(resolved, unresolved):
    return [(rollout(f"i{n % 5}", n), True) for n in range(resolved)] + [
        (rollout(f"i{n % 5}", 100 + n), False) for n in range(unresolved)
    ]


@pytest.mark.parametrize(
    ("resolved", "unresolved", "ratio", "expected"),
    [(10, 30, 1.0, (10, 10)), (30, 10, 1.0, (10, 10)), (10, 30, 2.0, (10, 20)), (10, 30, 4.0, (7, 28))],
)
def test_resolved_and_unresolved_stand_in_the_asked_ratio(resolved, unresolved, ratio, expected):
    rows = balance(judged(resolved, unresolved), VerifierDataSettings(negatives_per_positive=ratio))
    counts = Counter(kind for _, kind in rows)
    assert (counts[True], counts[False]) == expected


def test_a_cap_bounds_each_kind_of_an_instance():
    rows = balance(judged(25, 25), VerifierDataSettings(cap=2))
    assert max(Counter((row.instance_id, kind) for row, kind in rows).values()) == 2


def test_the_same_patch_counts_once():
    same = [(rollout("a", run, patch="p"), True) for run in range(3)] + [(rollout("a", 9, patch="q"), False)]
    assert len(balance(same, VerifierDataSettings())) == 2
    assert len(balance(same, VerifierDataSettings(distinct_patches=False, negatives_per_positive=0.3))) == 4


def test_the_seed_alone_decides_the_draw():
    rows = judged(20, 40)
    assert balance(rows, VerifierDataSettings(seed=1)) == balance(rows, VerifierDataSettings(seed=1))
    assert balance(rows, VerifierDataSettings(seed=1)) != balance(rows, VerifierDataSettings(seed=2))


def test_one_kind_alone_is_an_error():
    with pytest.raises(SwedagError, match="3 resolved, 0 unresolved"):
        balance(judged(3, 0), VerifierDataSettings())


def test_the_papers_form_is_a_log_between_markers_and_a_tagged_answer():
    asked = question(rollout("a", 0), "paper")
    assert [message.role for message in asked] == ["system", "user"]
    assert "*** Turn 1 - USER ***\nissue" in asked[1].content
    assert "*** Turn 1 - ASSISTANT ***\nreply" in asked[1].content
    assert answer(True, "paper").startswith(opening("paper") + "YES")


@pytest.mark.parametrize(("patch", "result"), [("diff", "patch"), ("", "empty patch")])
def test_the_plain_form_tells_whether_a_patch_came_of_the_reply(patch, result):
    asked = question(rollout("a", 0).model_copy(update={"patch": patch}), "plain")
    assert [message.content for message in asked] == [f"issue\n\nreply\n\n{result}\n\nYES or NO?"]


def test_user_messages_in_a_row_are_one_turn():
    contents = [("user", "a"), ("user", "b"), ("assistant", "c"), ("user", "d")]
    text = transcript(rollout("a", 0, messages=[Message(role=role, content=content) for role, content in contents]))
    assert "a\nb" in text
    assert text.count("*** Turn 1") == 2 and text.count("*** Turn 2 - USER") == 1


def test_a_probability_from_two_log_probabilities():
    assert probability(-1.0, -1.0) == 0.5
    assert probability(0.0, -1000.0) == 1.0
    assert 0 <= probability(-1000.0, 0.0) < 1e-300


PATCH = """\
diff --git a/shop/cart.py b/shop/cart.py
--- a/shop/cart.py
+++ b/shop/cart.py
@@ -8,3 +8,4 @@ class Cart
 def total(prices):
-    return max(prices)
+    prices = list(prices)
+    return sum(prices)

"""


def test_the_papers_form_for_patches_is_issue_code_before_and_after_and_code_that_was_found():
    said = [
        "<issue>\nIt is wrong.\n</issue>\n<file_context>\nold\n</file_context>",
        "<file_context>\nnew\n</file_context>",
    ]
    reviewed = rollout("a", 0, PATCH, [Message(role="user", content=text) for text in said])
    system, asked = question(reviewed, "patch")
    assert system.role == "system"
    assert asked.content == (
        "<issue>\nIt is wrong.\n</issue>\n\n"
        "<before>\nshop/cart.py\n   8 def total(prices):\n   9     return max(prices)\n  10\n</before>\n\n"
        "<after>\nshop/cart.py\n   8 def total(prices):\n   9     prices = list(prices)\n  10     return sum(prices)\n"
        "  11\n</after>\n\n<context>\nnew\n</context>\n\nDoes the change resolve the issue? True or False"
    )
    assert (answer(True, "patch"), answer(False, "patch"), opening("patch")) == ("True", "False", "")


def test_without_tags_the_first_message_is_the_issue_and_a_patch_may_be_empty():
    asked = question(rollout("a", 0).model_copy(update={"patch": ""}), "patch")[1].content
    assert asked.startswith("<issue>\nissue\n</issue>\n\n<before>\n\n</before>\n\n<after>\n\n</after>\n\nDoes")
    with pytest.raises(SwedagError, match="a run 3: its patch is no unified diff"):
        question(rollout("a", 3, patch="@@ -1,2 +1,2 @@\n broken"), "patch")


def characters(messages):
    return [ord(letter) for message in messages for letter in message.content]


def long(turns):
    said = [Message(role="system", content="rules"), Message(role="user", content="issue")]
    for turn in range(turns):
        said += [Message(role="assistant", content=f"reply {turn}"), Message(role="user", content=f"seen {turn}")]
    return rollout("a", 0, messages=said)


def test_a_long_log_keeps_what_was_asked_and_as_many_of_the_newest_messages_as_fit():
    whole = fit(long(20), "paper", 10**6, characters)
    assert not whole.cut and whole.messages == question(long(20), "paper")
    limit = len(whole.tokens) * 2 // 3
    cut = fit(long(20), "paper", limit, characters)
    log = cut.messages[1].content
    assert cut.cut and limit - 300 < len(cut.tokens) <= limit
    assert "rules" in log and "issue" in log and "seen 19" in log and "reply 0\n" not in log
    said = [f"{kind} {turn}\n" for turn in range(20) for kind in ("reply", "seen")]
    shown = [text in log for text in said]
    assert shown == sorted(shown)
    assert f"[{shown.count(False)} messages left out]" in log


def test_what_cannot_be_cut_to_the_limit_stays_whole():
    assert not fit(long(3), "paper", 50, characters).cut
    assert not fit(long(3), "plain", 5, characters).cut


@pytest.mark.parametrize(("how", "kept", "cut"), [("drop", 1, 0), ("cut", 2, 1)])
def test_judgements_beyond_the_limit_are_dropped_or_cut(how, kept, cut):
    short = rollout("b", 0)
    settings = VerifierDataSettings(long=how, max_tokens=3000)
    rows, asked = short_enough([(long(20), True), (short, False)], settings, 3000, characters)
    assert len(rows) == kept and rows[-1] == (short, False)
    assert sum(asked[id(row)].cut for row, _ in rows) == cut


def test_the_ratio_can_hold_for_each_policy_alone():
    on = [(row.model_copy(update={"policy": "on"}), kind) for row, kind in judged(10, 30)]
    off = [(row.model_copy(update={"policy": "off"}), kind) for row, kind in judged(30, 6)]
    settings = VerifierDataSettings(balance="policy")
    counts = Counter((row.policy, kind) for row, kind in balance([*on, *off], settings))
    assert counts == {("on", True): 10, ("on", False): 10, ("off", True): 6, ("off", False): 6}
    together = Counter(kind for _, kind in balance([*on, *off], VerifierDataSettings(distinct_patches=False)))
    assert together == {True: 36, False: 36}
    with pytest.raises(SwedagError, match="of policy off: 3 resolved, 0 unresolved"):
        balance([*on, *((row.model_copy(update={"policy": "off"}), kind) for row, kind in judged(3, 0))], settings)


def test_the_card_and_the_rows_tell_what_was_cut(tmp_path):
    letters = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    letters.pre_tokenizer = Split("", "isolated")
    letters.save(str(tmp_path / "tokenizer.json"))
    rows = [long(20), rollout("b", 0), rollout("c", 0)]
    outcomes = ["resolved", "unresolved", "infrastructure_failure"]
    files = {name: tmp_path / f"{name}.jsonl" for name in ("rollouts", "grades", "out")}
    write_jsonl(files["rollouts"], rows)
    write_jsonl(
        files["grades"],
        [
            Grade(
                instance_id=row.instance_id, run=0, patch_sha256="", outcome=outcome, resolved=outcome == "resolved",
                official_resolved=None,
            )
            for row, outcome in zip(rows, outcomes, strict=True)
        ],
    )  # fmt: skip
    settings = VerifierDataSettings(max_tokens=3000, long="cut").model_dump_json()
    inputs = [files["rollouts"]], [files["grades"]]
    main(settings, *inputs, files["out"], tmp_path / "card.json", tmp_path / "tokenizer.json")
    card = json.loads((tmp_path / "card.json").read_text())
    both = {"resolved": 1, "unresolved": 1}
    assert (card["rollouts"], card["left_after"]) == (3, {"judged": both, "max_tokens": both, "balance": both})
    assert (card["cut"], card["policies"]) == (1, {"p": 2})
    assert card["tokens"]["max"] <= 3000
    written = {row["instance_id"]: row for row in map(json.loads, files["out"].read_text().splitlines())}
    assert (written["a"]["cut"], written["b"]["cut"]) == (True, False)
    assert written["a"]["messages"][-1] == {"role": "assistant", "content": "<judgement>YES</judgement>"}
    with pytest.raises(SwedagError, match="--tokenizer"):
        main(settings, *inputs, files["out"], tmp_path / "card.json")
