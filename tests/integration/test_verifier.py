"""Scores read off a real vLLM server are those of a forward pass, in any order; what is too long is missing or cut."""

import json
import os
import random
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from swedag.errors import SwedagError
from swedag.judgement import Form, opening, question, words
from swedag.serving import Server, ServingSettings, serve, tool_python
from swedag.trajectory import Message, Rollout
from swedag.verifier import ScoreSettings, score
from tests.conftest import ROOT
from tests.integration.models import random_model

pytestmark = pytest.mark.integration
SERVING = ServingSettings(device="cpu", max_model_len=2048, kv_cache_gb=0.1)
FORMS: tuple[Form, ...] = ("paper", "patch", "plain")
COUNT = 100
PATCH = "--- a/m.py\n+++ b/m.py\n@@ -1 +1 @@\n-a = {0}\n+b = {0}\n"


def rollout(number: int, turns: int) -> Rollout:
    said = [Message(role="user", content=f"issue {number}")]
    for turn in range(turns):
        said.append(Message(role="assistant", content=f"reply {turn} to {number}: " + "x" * (7 * number % 60)))
        said.append(Message(role="user", content=f"seen {turn}"))
    return Rollout(
        instance_id=f"i{number}", run=0, policy="p", scaffold="s", seed=0, temperature=1, messages=said,
        patch=PATCH.format(number), exit="submitted", turns=turns, prompt_tokens=1, completion_tokens=1, seconds=0,
    )  # fmt: skip


ROLLOUTS = [rollout(number, 1 + number % 4) for number in range(COUNT)]
LONG = rollout(COUNT, 40)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(random_model(), SERVING, tmp_path_factory.mktemp("verifier") / "log") as running:
        yield running


def scored(server: Server, rollouts: list[Rollout], **settings: Any) -> list[dict[str, Any]]:
    chosen = ScoreSettings(serving=SERVING, **settings)
    return [result for _, result in score([(row.instance_id, row) for row in rollouts], server, chosen)]


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    forms = {
        form: {
            "words": words(form),
            "opening": opening(form),
            "conversations": [[message.model_dump() for message in question(row, form)] for row in ROLLOUTS],
        }
        for form in FORMS
    }
    job = tmp_path_factory.mktemp("direct") / "job.json"
    job.write_text(json.dumps({"model": str(random_model()), "forms": forms}))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [str(tool_python()), str(ROOT / "tests/integration/direct_scores.py"), str(job)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("form", FORMS)
def test_scores_are_those_of_a_forward_pass_in_any_order(server: Server, direct: dict[str, list[float]], form: Form):
    found = [result["score"] for result in scored(server, ROLLOUTS, form=form)]
    assert len(set(direct[form])) > COUNT / 2  # they tell inputs apart
    assert found == pytest.approx(direct[form], abs=1e-4)
    order = random.Random(0).sample(range(COUNT), COUNT)
    shuffled = scored(server, [ROLLOUTS[place] for place in order], form=form, batch=7)
    assert [result["score"] for result in shuffled] == pytest.approx([found[place] for place in order], abs=1e-6)


def test_what_is_too_long_has_no_score_or_one_of_a_cut_log(server: Server):
    short, missing = scored(server, [ROLLOUTS[0], LONG])
    assert short["score"] is not None and not short["cut"]
    assert missing["score"] is None and "tokens do not fit in 2048" in missing["error"]
    whole, cut = scored(server, [ROLLOUTS[0], LONG], long="cut")
    assert whole == short
    assert 0 < cut["score"] < 1 and cut["cut"] and not cut["error"]


def test_words_that_begin_alike_are_refused(server: Server):
    with pytest.raises(SwedagError, match="' YES' and ' NO' begin with the same token"):
        scored(server, ROLLOUTS[:1], leading_space=True)
