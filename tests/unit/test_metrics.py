import csv
import io
import math
import random
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from swedag.errors import SwedagError
from swedag.metrics import main
from swedag.metrics.closed import best_at_k, pass_at_k
from swedag.metrics.curves import curve, differences, parse_ks
from swedag.metrics.intervals import bootstrap, log_fit
from swedag.metrics.judgement import auc, quality
from swedag.metrics.paper import half_sample_deviation, monte_carlo
from swedag.metrics.reading import Attempt, Table, read_attempts

DATA = Path(__file__).parents[1] / "data" / "matrices"
RESOLVED = 79  # of 300, the published count of the chosen attempts
REFERENCE = Path(__file__).parents[2] / "config" / "reference"

scores = st.one_of(st.none(), st.sampled_from([0.1, 0.5, 0.9]), st.floats(-1e9, 1e9))
attempts = st.lists(st.tuples(scores, st.booleans()), min_size=1, max_size=8)


def table(rows: dict[str, list[tuple[float | None, bool | None]]], scored: bool = True) -> Table:
    instances = {
        name: [Attempt(name, run, resolved, score) for run, (score, resolved) in enumerate(group)]
        for name, group in sorted(rows.items())
    }
    return Table(Path("attempts.csv"), instances, scored)


def brute_pass(flags: list[bool], k: int) -> Fraction:
    subsets = list(combinations(flags, min(k, len(flags))))
    return Fraction(sum(any(subset) for subset in subsets), len(subsets))


def brute_best(group: list[tuple[float | None, bool]], k: int) -> Fraction:
    """Over all k-subsets: the share of resolved attempts among those that tie for the highest score."""
    subsets = list(combinations(group, min(k, len(group))))
    total = Fraction(0)
    for subset in subsets:
        top = max(-math.inf if score is None else score for score, _ in subset)
        tied = [flag for score, flag in subset if (-math.inf if score is None else score) == top]
        total += Fraction(sum(tied), len(tied))
    return total / len(subsets)


@given(attempts, st.integers(1, 10))
def test_closed_forms_equal_enumeration_of_all_subsets(group, k):
    flags = [flag for _, flag in group]
    assert pass_at_k(len(group), sum(flags), k) == pytest.approx(float(brute_pass(flags, k)), abs=1e-12)
    assert best_at_k(group, k) == pytest.approx(float(brute_best(group, k)), abs=1e-12)


@given(st.dictionaries(st.sampled_from("abcdef"), attempts, min_size=1), st.integers(1, 9))
@settings(max_examples=50)
def test_a_ragged_table_is_the_mean_over_its_instances(rows, k):
    point = curve(table(rows), [k], resamples=10)[0]
    expected_pass = sum(brute_pass([flag for _, flag in group], k) for group in rows.values()) / len(rows)
    expected_best = sum(brute_best(group, k) for group in rows.values()) / len(rows)
    assert point["pass_at_k"] == pytest.approx(float(expected_pass), abs=1e-12)
    assert point["best_at_k"] == pytest.approx(float(expected_best), abs=1e-12)
    assert point["n_short"] == sum(len(group) < k for group in rows.values())
    assert (point["n_instances"], point["n_attempts"]) == (len(rows), sum(map(len, rows.values())))


def test_closed_forms_stay_exact_for_many_attempts():
    assert pass_at_k(1000, 1, 500) == 0.5
    assert best_at_k([(float(i), i == 999) for i in range(1000)], 500) == 0.5
    assert best_at_k([(None, True), (0.0, False)], 2) == 0


@pytest.mark.parametrize("fixed_first_run", [False, True])
def test_the_papers_estimators_converge_to_the_closed_forms(fixed_first_run):
    rng = random.Random(7)
    rows = {
        f"i{n}": [(rng.choice([None, 0.2, 0.8, rng.random()]), rng.random() < 0.4) for _ in range(5)] for n in range(9)
    }
    built = table(rows)
    exact = curve(built, [2, 3, 5], resamples=10)
    groups, own = list(built.instances.values()), {"fixed_first_run": fixed_first_run, "nested": fixed_first_run}
    found = monte_carlo(groups, [2, 3, 5], **own, seed=1, trials=20_000)
    for point, (passed, passed_std, best, best_std) in zip(exact, found, strict=True):
        assert passed == pytest.approx(point["pass_at_k"], abs=4 * passed_std / math.sqrt(20_000) + 1e-12)
        assert best == pytest.approx(point["best_at_k"], abs=4 * best_std / math.sqrt(20_000) + 1e-12)


def test_openhands_takes_the_first_run_alone_for_one_attempt():
    built = table({"a": [(0.1, True), (0.9, False)], "b": [(0.1, False), (0.9, True)]})
    first, last = curve(built, [1, 2], estimator="paper")
    assert (first["pass_at_k"], first["best_at_k"], first["pass_low"], first["pass_high"]) == (0.5, 0.5, 0.5, 0.5)
    assert (last["pass_at_k"], last["best_at_k"]) == (1.0, 0.5)
    shuffled = curve(built, [1], estimator="paper", variant="moatless")[0]
    assert shuffled["pass_low"] < shuffled["pass_high"]


def test_figure_1_fits_come_out_of_its_points():
    with (REFERENCE / "fig1_scaling.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    panels = {"training": [], "best_at_k": []}
    for row in rows:
        panels[row["panel"]].append((float(row["x"]), float(row["resolve_rate"])))
    slope, intercept, r2 = log_fit(*map(list, zip(*panels["training"], strict=True)))
    assert (round(slope, 2), round(intercept, 2), round(r2, 3)) == (7.04, -22.65, 0.984)
    slope, intercept, r2 = log_fit(*map(list, zip(*panels["best_at_k"][1:], strict=True)))  # k = 1 is not fitted
    assert slope == pytest.approx(4.53, abs=0.011) and intercept == pytest.approx(19.54, abs=0.011)
    assert round(r2, 3) == 0.997


def test_all_twelve_deviations_of_table_3_follow_from_counts():
    with (REFERENCE / "table3_openhands.csv").open() as stream:
        cells = list(csv.DictReader(stream))
    assert len(cells) == 12
    for cell in cells:
        size = {"swe_bench_lite": 300, "swe_bench_verified": 500}[cell["benchmark"]]
        touched = size - round(size * float(cell["empty_patch"]) / 100)
        resolved = round(size * float(cell["resolve_rate"]) / 100)
        found = 100 * half_sample_deviation(resolved, touched)
        assert found == pytest.approx(float(cell["resolve_rate_std"]), abs=0.1), cell


def test_half_of_almost_nothing_has_no_spread():
    assert half_sample_deviation(0, 0) == half_sample_deviation(1, 1) == half_sample_deviation(4, 4) == 0


@pytest.mark.parametrize("dash_is", ["fail", "absent"])
def test_nine_real_systems_on_970_instances(tmp_path, dash_is):
    """A missing entry is an unresolved attempt by default, and none where it is left out (ragged rows)."""
    with (DATA / "swebench_pro.csv").open() as stream:
        matrix = {row["instance_id"]: row["systems"] for row in csv.DictReader(stream)}
    path = tmp_path / "attempts.csv"
    cells = {"1": "1", "0": "0", "-": ""}
    lines = [f"{name},{run},{cells[flag]}" for name, flags in matrix.items() for run, flag in enumerate(flags)]
    path.write_text("\n".join(["instance_id,run,resolved", *lines]))
    points = curve(read_attempts(path), range(1, 10), missing="fail" if dash_is == "fail" else "exclude", resamples=2)
    assert len(points) == 9
    for point in points:
        known = [flags if dash_is == "fail" else flags.replace("-", "") for flags in matrix.values()]
        exact = [brute_pass([flag == "1" for flag in flags], point["k"]) for flags in known if flags]
        assert abs(point["pass_at_k"] - sum(exact) / len(exact)) < 1e-12
        assert point["n_instances"] == len(exact) == 970
        assert point["n_short"] == sum(len(flags) < point["k"] for flags in known)


def test_real_attempts_with_one_verdict_each():
    found = read_attempts(DATA / "aider_lite.csv")
    failing, excluded = (curve(found, [1], missing=missing, resamples=2)[0] for missing in ("fail", "exclude"))
    assert failing["n_instances"] == excluded["n_instances"] == 300
    assert excluded["n_attempts"] == 300 < failing["n_attempts"]
    assert excluded["pass_at_k"] == pytest.approx(RESOLVED / 300, abs=1e-12) and failing["pass_at_k"] < RESOLVED / 300


def test_no_verdict_shrinks_no_denominator_unless_asked():
    rows = table({"a": [(0.9, None), (0.2, True)], "b": [(None, None)]})
    failing, excluded = (curve(rows, [1], missing=missing, resamples=10)[0] for missing in ("fail", "exclude"))
    assert (failing["pass_at_k"], failing["n_instances"], failing["n_attempts"]) == (0.25, 2, 3)
    assert (excluded["pass_at_k"], excluded["n_instances"], excluded["n_attempts"]) == (1.0, 1, 1)
    with pytest.raises(SwedagError, match="no attempt has a verdict"):
        curve(table({"b": [(None, None)]}), [1], missing="exclude")


def test_intervals_are_seeded_contain_the_mean_and_shrink_with_instances():
    values = [float(i % 3 == 0) for i in range(30)]
    (low, high), (again_low, again_high) = bootstrap([values, values], seed=5)
    assert (low, high) == (again_low, again_high) and low < sum(values) / 30 < high
    assert bootstrap([values], seed=5)[0] == (low, high)
    wide = high - low
    low, high = bootstrap([values * 4], seed=5)[0]
    assert (high - low) == pytest.approx(wide / 2, rel=0.15)
    # 10 of 30: the normal approximation is 0.333 ± 1.96 · sqrt(p (1 - p) / 30).
    assert wide / 2 == pytest.approx(1.96 * math.sqrt(1 / 3 * 2 / 3 / 30), rel=0.1)


@given(st.dictionaries(st.sampled_from("abcdef"), attempts, min_size=1), st.sampled_from(["closed", "paper"]))
@settings(max_examples=50)
def test_rates_and_their_intervals_lie_in_order_between_0_and_1(rows, estimator):
    for point in curve(table(rows), [1, 2, 999_999], estimator=estimator, resamples=20):
        assert 0 <= point["pass_low"] <= point["pass_at_k"] <= point["pass_high"] <= 1
        assert 0 <= point["best_low"] <= point["best_at_k"] <= point["best_high"] <= 1
        assert point["best_at_k"] <= point["pass_at_k"] + 1e-12


def test_differences_are_paired_over_the_common_instances():
    better = table({"a": [(None, True)], "b": [(None, True)], "c": [(None, False)]})
    worse = table({"a": [(None, False)], "b": [(None, True)], "z": [(None, True)]})
    row = differences(better, worse, [1])[0]
    assert row["n_instances"] == 2 and row["pass_difference"] == 0.5
    assert 0 <= row["pass_low"] <= 0.5 <= row["pass_high"] <= 1
    same = differences(better, better, [1])[0]
    assert (same["pass_difference"], same["pass_low"], same["pass_high"]) == (0, 0, 0)
    with pytest.raises(SwedagError, match="no instance_id in common"):
        differences(better, table({"q": [(None, True)]}), [1])


def run(*arguments: str) -> list[dict[str, str]]:
    import typer

    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(io.StringIO(result.stdout)))


COLUMNS = ["k", "pass_at_k", "pass_low", "pass_high", "best_at_k", "best_low", "best_high"]
COLUMNS += ["n_instances", "n_attempts", "n_short"]


def test_the_command_prints_the_agreed_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("run,instance_id,resolved,score,note\n0,x,1,0.5,\n1,x,0,,\n0,y,,,\n")
    rows = run(str(path), "--k", "1-2", "--resamples", "20")
    assert list(rows[0]) == COLUMNS
    assert [row["pass_at_k"] for row in rows] == ["0.25", "0.5"]
    assert [row["best_at_k"] for row in rows] == ["0.25", "0.5"]
    assert [row["n_short"] for row in rows] == ["0", "1"]
    assert run(str(path), "--k", "1-2", "--resamples", "20") == rows
    assert [row["k"] for row in run(str(path), "--estimator", "paper")] == ["1", "2"]


def test_without_scores_the_best_columns_are_empty(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("instance_id,run,resolved\nx,0,1\n")
    row = run(str(path), "--k", "3")[0]
    assert (row["best_at_k"], row["best_low"], row["best_high"], row["pass_at_k"], row["n_short"]) == (
        "",
        "",
        "",
        "1.0",
        "1",
    )
    paired = run(str(path), "--k", "1", "--baseline", str(path))[0]
    assert (paired["pass_difference"], paired["best_difference"]) == ("0.0", "")


def test_quoted_cells_spaces_and_a_table_of_one_attempt(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(' instance_id , run,resolved,"outcome"\n"a, ""b""\nc", 0 , 1 ,"resolved"\n')
    row = run(str(path), "--k", "1,16")[1]
    assert (row["pass_at_k"], row["pass_low"], row["pass_high"], row["n_short"]) == ("1.0", "1.0", "1.0", "1")
    with pytest.raises(SwedagError, match="leave out --estimator paper"):
        run(str(path), "--baseline", str(path), "--estimator", "paper")


def test_order_of_rows_byte_order_mark_and_line_ends_do_not_matter(tmp_path):
    rng = random.Random(3)
    lines = [f"i{n},{r},{rng.randint(0, 1)},{rng.random()}" for n in range(6) for r in range(4)]
    plain, odd = tmp_path / "plain.csv", tmp_path / "odd.csv"
    plain.write_text("\n".join(["instance_id,run,resolved,score", *lines]) + "\n")
    rng.shuffle(lines)
    odd.write_bytes("\r\n".join(["\ufeffinstance_id,run,resolved,score", *lines, ""]).encode())
    for estimator in ("closed", "paper"):
        assert run(str(plain), "--estimator", estimator) == run(str(odd), "--estimator", estimator)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: column 'instance_id' is missing; found an empty file"),
        ("instance_id,resolved\n", ":1: column 'run' is missing"),
        ("instance_id,run,run,resolved\n", ":1: column 'run' stands twice"),
        ("instance_id,run,resolved\n", "no attempts"),
        ("instance_id,run,resolved\nx,0,yes\n", ":2: resolved: 'yes' is not 1, 0 or empty"),
        ("instance_id,run,resolved\nx,zero,1\n", ":2: run: 'zero'"),
        ("instance_id,run,resolved\nx,-1,1\n", ":2: run: '-1'"),
        ("instance_id,run,resolved\nx,1.0,1\n", ":2: run: '1.0'"),
        (f"instance_id,run,resolved\nx,{'9' * 5000},1\n", ":2: run: '999"),
        ("instance_id,run,resolved\nx,0,1.0\n", ":2: resolved: '1.0' is not 1, 0 or empty"),
        ("instance_id,run,resolved\nx,0,True\n", ":2: resolved: 'True' is not 1, 0 or empty"),
        ("instance_id;run;resolved\nx;0;1\n", ":1: column 'instance_id' is missing; found instance_id;run;resolved"),
        ("instance_id,run,resolved\n,0,1\n", ":2: instance_id: empty"),
        ("instance_id,run,resolved\nx,0,1\nx,0,0\n", ":3: run: instance 'x' has run 0 already, in line 2"),
        ("instance_id,run,resolved\nx,0\n", ":2: 2 cells where the header has 3"),
        ("instance_id,run,resolved,score\nx,0,1,high\n", ":2: score: 'high' is not a finite number"),
        ("instance_id,run,resolved,score\nx,0,1,nan\n", ":2: score: 'nan' is not a finite number"),
        ("instance_id,run,resolved,score\nx,0,1,-inf\n", ":2: score: '-inf' is not a finite number"),
        ("instance_id,run,resolved,outcome\nx,0,1,infrastructure_failure\n", ":2: resolved: '1' although the outcome"),
        ('instance_id,run,resolved\n"x,0,1\n', "not CSV"),
    ],
)
def test_a_bad_table_is_named_by_file_line_and_column(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(SwedagError) as error:
        read_attempts(path)
    assert str(path) in str(error.value) and message in str(error.value)


def test_files_that_are_absent_or_not_text(tmp_path):
    with pytest.raises(SwedagError, match="no such file"):
        read_attempts(tmp_path / "absent.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SwedagError, match="not UTF-8"):
        read_attempts(tmp_path / "binary.csv")


@pytest.mark.parametrize("text", ["", "0-3", "4-2", "1-", "a", "1,,2", "²"])
def test_numbers_of_attempts_that_mean_nothing(text):
    with pytest.raises(SwedagError, match="k: "):
        parse_ks(text)
    assert parse_ks("1-3,8, 2") == [1, 2, 3, 8]


def test_how_good_a_verifier_is():
    assert auc([0.9, 0.5], [0.5, 0.1]) == 0.875
    assert auc([], [0.1]) is None
    rows = table({"a": [(0.95, True), (0.15, False)], "b": [(0.35, True), (None, False), (0.1, None)]})
    found = quality(rows.attempts, bins=10)
    assert (found["scored"], found["missing_scores"], found["no_verdict"], found["resolved"]) == (3, 1, 1, 2)
    assert found["auc"] == found["auc_within_instances"] == 1 and found["instances_with_both_verdicts"] == 1
    assert found["ece"] == pytest.approx((0.05 + 0.15 + 0.65) / 3)
    assert [row["n"] for row in found["reliability"]] == [0, 1, 0, 1, 0, 0, 0, 0, 0, 1]
