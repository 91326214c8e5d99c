import csv
import io
import json
import re
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from swedag.datasets.step import main as make_instances
from swedag.errors import SwedagError
from swedag.metrics.paper import half_sample_deviation
from swedag.tables import TableSettings, cards_of, datasets_of, main, make, references_of, sets_of
from swedag.tables.document import Document, escape
from tests.unit.test_attempts import RUN, table

REFERENCE = Path(__file__).parents[2] / "config" / "reference"
POLICIES = {"kind": "iterations", "sets": ["rft-0-eval", "rft-1-eval", "rft-2-eval"], "labels": ["0", "1", "2"]}
PAPER = {
    "file": "table5_moatless",
    "where": {"model_size": "7B"},
    "rows": [{"iteration": str(i)} for i in range(3)],
    "columns": {"resolve_rate": "resolve_rate", "empty_patch_rate": "empty_patch"},
}


def settings(**values) -> TableSettings:
    return TypeAdapter(TableSettings).validate_python(values)


@pytest.fixture
def attempts(tmp_path: Path) -> list[Path]:
    return [table(tmp_path / f"rft-{i}-eval.csv", f"rft-{i}-eval", scored=i == 2) for i in range(3)]


def test_policies_side_by_side_with_every_tier_and_denominator(attempts):
    found = make(settings(**POLICIES), attempts, [], [], [])
    rows = found.tidy
    for row in rows:
        counted = [
            row[f"outcome_{name}"]
            for name in ("resolved", "unresolved", "empty_patch", "patch_failed", "timeout", "tampered")
        ]
        assert sum(counted) + row["environment_failure"] + row["infrastructure_failure"] == row["attempts"] == 24
        assert row["model_failures"] == sum(counted[1:]) and row["resolved"] == counted[0]
        assert row["resolve_rate"] == pytest.approx(row["resolved"] / 24)
        assert row["resolve_low"] <= row["resolve_rate"] <= row["resolve_high"]
    assert [row["environment_failure"] for row in rows] == [4, 4, 4]
    assert [row["infrastructure_failure"] for row in rows] == [0, 1, 0]
    assert rows[0]["first_difference"] is None and rows[0]["previous_difference"] is None
    assert rows[2]["first_difference"] == pytest.approx(rows[2]["resolve_rate"] - rows[0]["resolve_rate"])
    assert rows[2]["previous_difference"] == pytest.approx(rows[2]["resolve_rate"] - rows[1]["resolve_rate"])
    assert "24 attempts on 6 instances" in found.notes[0]


def test_only_rows_of_a_block_with_the_same_instances_are_compared(tmp_path, attempts):
    other = tmp_path / "other.csv"
    other.write_text("instance_id,run,resolved\nelsewhere,0,1\n")
    sets = [*POLICIES["sets"], "other"]
    pairs = make(settings(kind="iterations", sets=sets, block=2), [*attempts, other], [], [], [])
    found = [row["previous_difference"] for row in pairs.tidy]
    assert found[1] is not None and found[0] is found[2] is found[3] is None
    assert "over previous" in pairs.header and "over first" not in pairs.header
    whole = make(settings(kind="iterations", sets=sets), [*attempts, other], [], [], [])
    assert whole.tidy[2]["first_difference"] is not None and whole.tidy[3]["first_difference"] is None
    alone = make(settings(kind="iterations", sets=sets, block=1), [*attempts, other], [], [], [])
    assert not [name for name in alone.header if name.startswith("over ")]


def test_missing_verdicts_leave_the_rates_only_when_asked(attempts):
    failing = make(settings(**POLICIES), attempts, [], [], []).tidy[1]
    excluded = make(settings(**POLICIES, missing="exclude"), attempts, [], [], []).tidy[1]
    assert (failing["instances"], failing["attempts"]) == (6, 24)
    assert (excluded["instances"], excluded["attempts"]) == (5, 19)
    assert excluded["resolve_rate"] > failing["resolve_rate"]
    assert excluded["environment_failure"] == 4  # still told


def test_the_papers_numbers_stand_beside_ours(attempts):
    rows = make(settings(**POLICIES, reference=PAPER), attempts, [], [], [REFERENCE / "table5_moatless.csv"]).tidy
    assert [row["paper_resolve_rate"] for row in rows] == pytest.approx([0.07, 0.09, 0.1])
    beside = make(settings(**POLICIES, reference=PAPER), attempts, [], [], [REFERENCE / "table5_moatless.csv"])
    assert beside.header[2:4] == ["resolve rate, %", "paper: resolve, %"] and beside.rows[1][3] == "9.0"
    assert beside.header.index("paper: empty patch, %") == beside.header.index("empty patch, %") + 1
    assert [row["paper_empty_patch_rate"] for row in rows] == pytest.approx([0.563, 0.29, 0.233])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"where": {"model_size": "9B"}}, "0 rows match model_size=9B"),
        ({"rows": []}, "3 rows match model_size=7B"),
        ({"columns": {"resolve_rate": "rate"}}, "no column 'rate'"),
        ({"file": "table99"}, "--references does not have table99.csv"),
    ],
)
def test_a_reference_must_name_one_cell_per_set(attempts, change, message):
    chosen = settings(**POLICIES, reference=PAPER | change)
    with pytest.raises(SwedagError, match=message):
        make(chosen, attempts, [], [], [REFERENCE / "table5_moatless.csv"])


def test_the_papers_deviation_counts_non_empty_patches(attempts):
    row = make(settings(**POLICIES), attempts, [], [], []).tidy[0]
    touched = row["attempts"] - round(row["empty_patch_rate"] * row["attempts"])
    assert row["half_sample_std"] == pytest.approx(half_sample_deviation(row["resolved"], touched))


def test_scaling_by_k_with_best_where_there_are_scores(attempts):
    scored = make(settings(kind="scaling", sets=["rft-2-eval"], k="1-4"), attempts[2:], [], [], [])
    assert [row["k"] for row in scored.tidy] == [1, 2, 3, 4]
    assert all(row["best_at_k"] <= row["pass_at_k"] for row in scored.tidy)
    assert any("Best@k ≈" in note and "over k ≥ 2" in note for note in scored.notes)
    unscored = make(settings(kind="scaling", sets=["rft-0-eval"], k="1,2"), attempts[:1], [], [], [])
    assert "Best@k, %" not in unscored.header and unscored.tidy[0]["best_at_k"] is None
    paper = {"file": "fig4_openhands_scaling", "columns": {"pass_at_k": "pass_at_k", "best_at_k": "best_at_k"}}
    beside = make(
        settings(kind="scaling", sets=["rft-2-eval"], k="2,17", reference=paper),
        attempts[2:], [], [], [REFERENCE / "fig4_openhands_scaling.csv"],
    )  # fmt: skip
    assert [row["paper_pass_at_k"] for row in beside.tidy] == [pytest.approx(0.248), None]


def test_training_sets_count_what_each_filter_left():
    cards = sorted((RUN / "sft").glob("*.card.json"))
    found = make(settings(kind="sets", training_sets=["rft-2", "rft-1"]), [], cards, [], [])
    assert [row["training_set"] for row in found.tidy] == ["rft-2", "rft-1"]
    assert [(row["rollouts"], row["resolved"], row["cap"], row["rows"]) for row in found.tidy] == [
        (960, 380, 192, 192),
        (480, 190, 96, 96),
    ]
    assert "distinct patches" not in found.header and found.tidy[0]["distinct_patches"] is None


def test_where_the_rollouts_of_training_sets_are_from_beside_the_papers_table_7():
    cards = sorted((RUN / "sft").glob("*.card.json"))
    paper = {"file": "table7_trajectory_distribution", "columns": {"rft-1": "original"}}
    chosen = settings(kind="sources", training_sets=["rft-1", "rft-2"], reference=paper)
    assert (cards_of(chosen), references_of(chosen)) == (["rft-1", "rft-2"], ["table7_trajectory_distribution"])
    found = make(chosen, [], cards, [], [REFERENCE / "table7_trajectory_distribution.csv"])
    assert found.tidy[0] == {"repo": "sqlparse", "rft-1": 72, "rft-2": 144, "paper_rft-1": None}
    moto = next(row for row in found.tidy if row["repo"] == "getmoto/moto")
    assert moto == {"repo": "getmoto/moto", "rft-1": 0, "rft-2": 0, "paper_rft-1": 155}
    assert found.rows[-1] == ["all", "156", "228", "491"]


def test_loops_are_counted_by_the_rules_and_by_the_papers_words(tmp_path):
    path = tmp_path / "looped.csv"
    # Stuck with an empty patch and repeating; stuck with a patch; repeating without being stuck; neither.
    path.write_text(
        "instance_id,run,resolved,empty_patch,stuck,repeated\na,0,0,1,1,1\nb,0,0,0,1,0\nc,0,1,0,0,1\nd,0,0,0,0,0\n"
    )
    row = {"benchmark": "swe_bench_lite", "model_size": "7B", "policy": "zero_shot"}
    paper = {"half_sample_std": "resolve_rate_std", "stuck_with_patch_rate": "stuck_in_loop"}
    reference = {"file": "table3_openhands", "rows": [row], "columns": paper}
    chosen = settings(kind="iterations", sets=["looped"], reference=reference)
    found = make(chosen, [path], [], [], [REFERENCE / "table3_openhands.csv"])
    assert {key: found.tidy[0][key] for key in ("stuck_rate", "stuck_with_patch_rate", "repeated_rate")} == {
        "stuck_rate": 0.5, "stuck_with_patch_rate": 0.25, "repeated_rate": 0.5,
    }  # fmt: skip
    assert found.tidy[0]["paper_stuck_with_patch_rate"] == 0.47
    shown = dict(zip(found.header, found.rows[0], strict=True))
    assert (shown["stuck, %"], shown["stuck, with a patch, %"], shown["same action thrice, %"]) == (
        "50.0",
        "25.0",
        "50.0",
    )
    # Of three patches, half is one: the deviation of a coin that falls so once in three times.
    assert float(shown["± of halves, %"]) == pytest.approx(100 * 2**0.5 / 3, abs=2)
    assert shown["paper: ± of halves, %"] == "1.0"
    assert "passes over empty patches" in found.markdown()


def test_columns_of_loops_stand_only_where_there_are_any(attempts):
    assert "stuck, %" not in make(settings(**POLICIES), attempts, [], [], []).header


def test_successes_by_instance_are_the_papers_figure_3_and_its_table_4(tmp_path):
    counts = [int(row["successes"]) for row in csv.DictReader((REFERENCE / "fig3_successes.csv").open())]
    path = tmp_path / "sampled.csv"
    lines = [
        f"i{place:02},{run},{int(run < count)}" for place, count in enumerate([*counts[2:], 0]) for run in range(30)
    ]
    path.write_text("\n".join(["instance_id,run,resolved", *lines]))
    reference = {"file": "fig3_successes", "columns": {"resolved": "successes"}}
    chosen = settings(kind="successes", sets=["sampled"], labels=["ours"], reference=reference)
    assert (sets_of(chosen), references_of(chosen)) == (["sampled"], ["fig3_successes"])
    found = make(chosen, [path], [], [], [REFERENCE / "fig3_successes.csv"])
    assert [row["paper_resolved"] for row in found.tidy] == counts
    assert [row["resolved"] for row in found.tidy] == [*counts[2:], 0, 0]
    assert (found.tidy[0]["instance_id"], found.tidy[0]["attempts"], found.tidy[-1]["instance_id"]) == ("i00", 30, "")
    # Table 4's numbers of trajectories.
    assert (
        "36 instances resolved at least once, 172 rollouts in all; 36 with at most 1, 62 with at most 2, 82"
        in found.notes[1]
    )
    none = make(settings(kind="successes", sets=["sampled"]), [path], [], [], [])
    assert none.csv().splitlines()[0] == "label,set,rank,instance_id,resolved,attempts"


def test_how_long_rollouts_are_beside_the_papers_table_8(tmp_path):
    cards = sorted((RUN / "sft").glob("*.card.json"))
    paper = {"file": "table8_trajectory_lengths", "columns": {"p50": "p50"}}
    chosen = settings(kind="lengths", training_sets=["rft-1"], reference=paper)
    card = json.loads(cards[0].read_text()) | {"messages_resolved": {"count": 190, "mean": 2.5, "std": 0.5, "p50": 2}}
    path = tmp_path / "rft-1.card.json"
    path.write_text(json.dumps(card))
    found = make(chosen, [], [path], [], [REFERENCE / "table8_trajectory_lengths.csv"])
    kinds = [(row["quantity"], row["resolved"], row["p50"], row["paper_p50"]) for row in found.tidy]
    assert kinds[1:] == [
        ("messages", "yes", 2, 33), ("tokens", "no", kinds[2][2], 12305), ("tokens", "yes", 131, 15999),
    ]  # fmt: skip
    assert found.tidy[1]["std"] == 0.5 and found.rows[1][3:6] == ["190", "2.5", "0.5"]


def test_statistics_of_a_dataset():
    chosen = settings(
        kind="statistics",
        datasets=["eval"],
        reference={"file": "table2_statistics", "columns": {"eval": "swe_gym_lite"}},
    )
    found = make(chosen, [], [], [RUN / "instances/eval.jsonl"], [REFERENCE / "table2_statistics.csv"])
    rows = {row["metric"]: row for row in found.tidy}
    assert (rows["instances"]["eval"], rows["repos"]["eval"], rows["fail_to_pass_mean"]["eval"]) == (6, 4, 1)
    assert (rows["lines_edited_mean"]["eval"], rows["total_mean"]["eval"]) == (2, 4)
    assert (rows["instances"]["paper_eval"], rows["total_mean"]["paper_eval"]) == (230, 99.9)
    assert found.header[-1] == "paper: swe_gym_lite"


@pytest.fixture
def published(tmp_path: Path) -> list[Path]:
    """Real rows of SWE-Gym and SWE-bench Verified as instances."""
    paths = []
    for name, file in (("gym", "swe_gym_moto"), ("verified", "swebench_verified_5")):
        rows = Path(__file__).parents[1] / f"data/instances/{file}.jsonl"
        source = {"kind": "published", "source": {"kind": "file", "path": str(rows)}}
        paths.append(tmp_path / f"{name}.jsonl")
        make_instances(json.dumps(source), rows, paths[-1], tmp_path / f"{name}.rows.csv")
    return paths


def test_statistics_of_real_rows_beside_the_papers(published):
    chosen = settings(
        kind="statistics",
        datasets=["gym", "verified"],
        reference={"file": "table2_statistics", "columns": {"gym": "swe_gym", "verified": "swe_bench_test"}},
    )
    found = make(chosen, [], [], published, [REFERENCE / "table2_statistics.csv"])
    rows = {row["metric"]: row for row in found.tidy}
    # Counted by hand (wc -w, and the diffs read).
    assert {metric: row["gym"] for metric, row in rows.items()} == {
        "instances": 3,
        "repos": 1,
        "length_by_words_mean": pytest.approx((251 + 142 + 163) / 3),
        "lines_edited_mean": pytest.approx((20 + 5 + 32) / 3),
        "files_edited_mean": pytest.approx((1 + 1 + 2) / 3),
        "functions_edited_mean": pytest.approx((2 + 1 + 5) / 3),
        "fail_to_pass_mean": 1,
        "total_mean": pytest.approx((2 + 8 + 3) / 3),
    }
    assert rows["repos"]["verified"] == 5 and rows["fail_to_pass_mean"]["verified"] == pytest.approx(
        (5 + 10 + 1 + 1 + 1) / 5
    )
    assert rows["functions_edited_mean"]["paper_gym"] == 4.1 and rows["total_mean"]["paper_verified"] == 132.5
    assert "gym: edited functions of 3 of 3 patches are estimated" in found.markdown()
    with pytest.raises(SwedagError, match="--images: the code of getmoto__moto-5876"):
        make(chosen.model_copy(update={"code": True}), [], [], published, [REFERENCE / "table2_statistics.csv"])


def test_datasets_beside_the_papers_table_1(published):
    chosen = settings(
        kind="datasets",
        datasets=["gym", "eval"],
        reference={
            "file": "table1_datasets",
            "rows": [{"dataset": "SWE-Gym"}, {"dataset": "SWE-Bench (test)"}],
            "columns": {"instances": "instances_total"},
        },
    )
    found = make(chosen, [], [], [published[0], RUN / "instances/eval.jsonl"], [REFERENCE / "table1_datasets.csv"])
    assert [list(row.values()) for row in found.tidy] == [
        ["gym", "yes", "yes", "yes", 3, 2438],
        ["eval", "yes", "yes", "no", 6, 2294],
    ]
    assert found.header[-1] == "paper: instances"
    with pytest.raises(ValidationError, match="1 for 2 datasets"):
        settings(
            **chosen.model_dump() | {"reference": chosen.reference.model_dump() | {"rows": [{"dataset": "SWE-Gym"}]}}
        )


def test_repositories_beside_the_papers_figure_2(published):
    reference = {"file": "fig2_repositories", "columns": {"gym": "swe_gym_lite"}}
    chosen = settings(kind="repositories", datasets=["gym", "verified"], reference=reference)
    found = make(chosen, [], [], published, [REFERENCE / "fig2_repositories.csv"])
    assert found.tidy[0] == {"repo": "getmoto/moto", "gym": 3, "verified": 0, "paper_gym": 59}
    assert {row["repo"]: row["paper_gym"] for row in found.tidy if row["verified"]} == dict.fromkeys(
        ["django/django", "pylint-dev/pylint", "scikit-learn/scikit-learn", "sphinx-doc/sphinx", "sympy/sympy"]
    )
    assert len(found.tidy) == 5 + 11 and sum(row["paper_gym"] or 0 for row in found.tidy) == 230
    assert found.tidy[-1]["gym"] == 0 and found.rows[1][-1] in ("", "5")


def test_files_are_the_same_bytes_again_and_read_as_what_they_are(tmp_path, attempts):
    written = []
    for number in range(2):
        files = [tmp_path / f"{number}.{suffix}" for suffix in ("csv", "md", "tex")]
        chosen = TypeAdapter(TableSettings).dump_json(settings(**POLICIES, caption="Rates & 100 %")).decode()
        main(chosen, *files, attempts=attempts[::-1] if number else attempts)
        written.append([file.read_text() for file in files])
    assert written[0] == written[1]
    text, markdown, latex = written[0]
    assert [row["label"] for row in csv.DictReader(io.StringIO(text))] == ["0", "1", "2"]
    assert markdown.startswith("**Rates & 100 %**\n\n| policy")
    assert r"\caption{Rates \& 100 \%}" in latex and r"\toprule" in latex and r"\bottomrule" in latex
    assert not re.search(r"(?<!\\)[%&_#](?![^\n]*\\\\)", latex.replace(" & ", " "))


def test_cells_cannot_break_out_of_their_table():
    found = Document("", [{"a": 1}], ["a|b", "n"], [["x|y", "50 %_$"]])
    assert r"x\|y" in found.markdown()
    assert r"50 \%\_\$" in found.latex()
    assert escape("\\~^{}≥") == r"\textbackslash{}\textasciitilde{}\textasciicircum{}\{\}$\ge$"


def test_what_a_table_needs_is_known_from_its_settings(attempts):
    chosen = settings(**POLICIES, reference=PAPER)
    assert (sets_of(chosen), references_of(chosen), cards_of(chosen)) == (POLICIES["sets"], ["table5_moatless"], [])
    assert cards_of(settings(kind="sets", training_sets=["x"])) == ["x"]
    assert datasets_of(settings(kind="statistics", datasets=["d"])) == ["d"]
    with pytest.raises(SwedagError, match="--attempts: no file for rft-2-eval"):
        make(chosen, attempts[:2], [], [], [])


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "pie", "sets": ["a"]},
        {"kind": "iterations", "sets": []},
        {"kind": "iterations", "sets": ["a"], "labels": ["x", "y"]},
        {"kind": "scaling", "sets": ["a"], "k": "0-3"},
        {"kind": "scaling", "sets": ["a"], "K": "1-3"},
    ],
)
def test_settings_that_mean_nothing_are_refused(values):
    with pytest.raises(ValidationError):
        settings(**values)
