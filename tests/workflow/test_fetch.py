"""`make fetch` names rules that there are, all of those whose steps say that they need a network."""

import importlib
import inspect
import re

from swedag.cli import STEPS
from tests.conftest import ROOT


def rules() -> dict[str, str]:
    """Text of each rule by its name."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    parts = re.split(r"(?m)^rule (\w+):$", text)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_rule_that_needs_a_network_is_fetched():
    named = re.search(r"(?m)^NETWORK := ((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text())
    assert named
    fetched = set(named[1].replace("\\", " ").split())
    assert fetched <= rules().keys()
    for name, text in rules().items():
        step = re.search(r"python -m swedag ([\w-]+)", text)
        if step and "needs a network" in (inspect.getdoc(importlib.import_module(STEPS[step[1]]).main) or "").lower():
            assert name in fetched
