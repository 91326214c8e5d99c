import itertools
import re
from pathlib import Path

import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from swedag.errors import SwedagError
from swedag.figures import FigureSettings, main, policies_of, references_of, sets_of
from swedag.figures.scaling import scaling
from swedag.figures.training import losses_of
from swedag.metrics.reading import read_attempts
from swedag.reference import ReferenceTable
from tests.unit.test_attempts import RUN, table
from tests.unit.test_tables import PAPER, REFERENCE

SETS = ["rft-0-eval", "rft-1-eval", "rft-2-eval"]
FIGURES = {
    "iterations": {"kind": "iterations", "sets": SETS, "reference": PAPER, "caption": "Iterations"},
    "scaling": {
        "kind": "scaling",
        "sets": SETS,
        "k": "1-4",
        "reference": {
            "file": "fig4_openhands_scaling",
            "columns": {"pass_at_k": "pass_at_k", "best_at_k": "best_at_k"},
        },
    },
    "successes": {
        "kind": "successes",
        "sets": SETS[:1],
        "reference": {"file": "fig3_successes", "columns": {"resolved": "successes"}},
    },
    "training": {"kind": "training", "policies": ["rft-1", "rft-2"]},
    "verifier": {"kind": "verifier", "sets": ["rft-2-eval"], "bins": 5},
}


@pytest.fixture(scope="module")
def attempts(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("attempts")
    return [table(folder / f"{name}.csv", name, scored=name == SETS[-1]) for name in SETS]


def draw(folder: Path, values: dict, attempts: list[Path], quality: Path | None = None) -> tuple[bytes, bytes]:
    chosen: FigureSettings = TypeAdapter(FigureSettings).validate_python(values)
    main(
        TypeAdapter(FigureSettings).dump_json(chosen).decode(),
        folder / "f.svg",
        folder / "f.png",
        attempts=attempts,
        checkpoints=[RUN / "checkpoints/rft-1", RUN / "checkpoints/rft-2"],
        references=[REFERENCE / f"{name}.csv" for name in references_of(chosen)],
        quality=quality,
    )
    return (folder / "f.svg").read_bytes(), (folder / "f.png").read_bytes()


@pytest.mark.parametrize("name", FIGURES)
def test_every_kind_is_drawn_and_the_same_bytes_again(tmp_path, attempts, name):
    svg, png = draw(tmp_path, FIGURES[name], attempts)
    assert draw(tmp_path, FIGURES[name], attempts) == (svg, png)
    assert b"<dc:date>" not in svg and b"Matplotlib" not in png
    # Text is outlines and nothing is fetched: only the names of XML vocabularies and the document type are addresses.
    assert not re.search(rb"(href|src)=\"(?!#)", svg)
    with Image.open(tmp_path / "f.png") as image:
        assert image.width > 1000
        assert len(set(image.convert("L").resize((64, 32)).tobytes())) > 8


def test_curves_differ_without_colour(tmp_path, attempts):
    """Greyscale: each of two training curves has its own dash pattern."""
    svg, _ = draw(tmp_path, FIGURES["training"], attempts)
    assert b"stroke-dasharray" in svg and b"#1d4e89" in svg and b"#e07a1f" in svg


def test_curves_are_named_once_and_apart(tmp_path, attempts):
    names = ["rft-2-eval@a", "rft-2-eval@b", "rft-2-eval@c"]
    tables = {name: read_attempts(table(tmp_path / f"{name}.csv", "rft-2-eval", scored=True)) for name in names}
    reference = {
        "file": "fig5_verifier_ablation",
        "columns": {"best_at_k": "best_at_k"},
        "rows": [{"verifier_data": kind} for kind in ("mixture", "on_policy", "off_policy")],
    }
    chosen = TypeAdapter(FigureSettings).validate_python(
        {"kind": "scaling", "sets": names, "labels": ["A", "B", "C"], "k": "1-4", "reference": reference}
    )
    figure = scaling(chosen, tables, ReferenceTable(REFERENCE / "fig5_verifier_ablation.csv"))
    texts = figure.axes[0].texts
    told = sorted(re.sub(r" [\d.]+$", "", text.get_text()) for text in texts)
    ours = ["A: Best@k", "B: Best@k", "C: Best@k", "rft-2-eval: Pass@k"]
    assert told == sorted([*ours, *(f"paper, {label}: Best@k" for label in "ABC")])
    places = sorted(text.xyann[1] for text in texts)
    assert places[-1] <= 1 and all(b - a > 0.06 for a, b in itertools.pairwise(places))
    # A colour for each set, and its paper's curve in the same with open markers.
    lines = {
        (line.get_color(), line.get_linestyle(), line.get_markerfacecolor() == "white") for line in figure.axes[0].lines
    }
    assert len(lines) == 1 + 2 * 3


def test_the_numbers_behind_a_verifiers_figure(tmp_path, attempts):
    draw(tmp_path, FIGURES["verifier"], attempts, quality=tmp_path / "quality.json")
    found = TypeAdapter(dict).validate_json((tmp_path / "quality.json").read_text())
    assert 0.5 < found["auc"] <= 1 and found["attempts"] == 24 and found["missing_scores"] == 1
    assert found["scored"] + found["no_verdict"] + found["missing_scores"] == 24
    assert sum(row["n"] for row in found["reliability"]) == found["scored"] and len(found["reliability"]) == 5


def test_a_verifier_needs_scores_between_0_and_1(tmp_path, attempts):
    with pytest.raises(SwedagError, match="no score column"):
        draw(tmp_path, {"kind": "verifier", "sets": ["rft-0-eval"]}, attempts)
    odd = tmp_path / "odd.csv"
    odd.write_text("instance_id,run,resolved,score\na,0,1,-3.5\n")
    with pytest.raises(SwedagError, match=r"score -3\.5 of a is not between 0 and 1"):
        draw(tmp_path, {"kind": "verifier", "sets": ["odd"]}, [odd])
    assert read_attempts(odd).scored


@pytest.mark.parametrize("line", ["instance_id,run,resolved\na,0,0\n", "instance_id,run,resolved\na,0,\na,1,\n"])
@pytest.mark.parametrize("kind", ["iterations", "scaling"])
def test_nothing_resolved_and_nothing_known_can_be_drawn(tmp_path, kind, line):
    path = tmp_path / "poor.csv"
    path.write_text(line)
    draw(tmp_path, {"kind": kind, "sets": ["poor"]}, [path])


def test_one_sided_scores_can_be_drawn(tmp_path):
    path = tmp_path / "sure.csv"
    path.write_text("instance_id,run,resolved,score\na,0,1,1\na,1,1,\n")
    draw(tmp_path, {"kind": "verifier", "sets": ["sure"]}, [path], tmp_path / "q.json")


def test_training_logs(tmp_path):
    log = tmp_path / "training.jsonl"
    log.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1}\n{"train_runtime": 3.0, "step": 2}\n')
    assert losses_of(log) == ([1, 2], [2, 1])
    log.write_text('{"step": 1}\n')
    with pytest.raises(SwedagError, match="no row has `step` and `loss`"):
        losses_of(log)
    log.write_text("{\n")
    with pytest.raises(SwedagError, match=r"training\.jsonl:1: not JSON"):
        losses_of(log)
    with pytest.raises(SwedagError, match="no such file"):
        losses_of(tmp_path / "none.jsonl")


def test_what_a_figure_needs_is_known_from_its_settings(tmp_path, attempts):
    chosen = {name: TypeAdapter(FigureSettings).validate_python(values) for name, values in FIGURES.items()}
    assert sets_of(chosen["scaling"]) == SETS and sets_of(chosen["training"]) == []
    assert policies_of(chosen["training"]) == ["rft-1", "rft-2"] and policies_of(chosen["verifier"]) == []
    assert references_of(chosen["iterations"]) == ["table5_moatless"] and references_of(chosen["verifier"]) == []
    with pytest.raises(SwedagError, match="--attempts: no file for rft-1-eval, rft-2-eval"):
        draw(tmp_path, FIGURES["iterations"], attempts[:1])
    with pytest.raises(ValidationError):
        TypeAdapter(FigureSettings).validate_python({"kind": "scaling", "sets": ["a"], "k": "4-1"})
