from collections import Counter

import pytest

from swedag.errors import SwedagError
from swedag.judgement import answer, opening, question, transcript
from swedag.trajectory import Message, Rollout
from swedag.verifier import probability
from swedag.verifier_data import VerifierDataSettings, balance


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
