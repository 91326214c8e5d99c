import json
from pathlib import Path

import pytest
import yaml

from swedag.config import Config, json_schema, load, reference
from swedag.errors import SwedagError
from swedag.metrics.curves import parse_ks
from swedag.plan import read_together
from swedag.reference import ReferenceTable

DEMO = Path("config/demo.yaml")


@pytest.fixture
def values():
    return yaml.safe_load(DEMO.read_text())


@pytest.mark.parametrize("path", sorted(Path("config").glob("*.yaml")), ids=str)
def test_every_shipped_config_is_valid(path):
    assert load(yaml.safe_load(path.read_text()), [path]).run == path.stem


def test_the_schema_and_the_reference_are_those_of_the_code():
    message = "run `make config` and commit what it writes"
    assert json.loads(Path("workflow/schemas/config.schema.json").read_text()) == json_schema(), message
    assert Path("config/README.md").read_text() == reference(), message


def test_every_key_is_explained():
    blocks = {"Config": json_schema()} | json_schema()["$defs"]
    bare = [f"{title}.{key}" for title, block in blocks.items() for key, value in block.get("properties", {}).items()
            if not value.get("description") and "const" not in value]  # fmt: skip
    assert not bare


def break_at(values, path, key, value):
    for part in path.split(".") if path else []:
        values = values[part]
    values[key] = value


@pytest.mark.parametrize(
    ("path", "key", "nearest"),
    [
        ("", "shard_sise", "shard_size"),
        ("self_improvement.rft", "iteration", "iterations"),
        ("self_improvement.rft.sample", "run", "runs"),
        ("self_improvement.rft.sample.settings", "temprature", "temperature"),
        ("grading", "timeout_second", "timeout_seconds"),
        ("models.tiny", "sed", "seed"),
        ("training.rft", "epoch", "epochs"),
        ("tables.iterations", "set", "sets"),
    ],
)
def test_a_mistyped_key_names_the_file_the_key_and_the_nearest_one(values, path, key, nearest):
    break_at(values, path, key, 1)
    with pytest.raises(SwedagError) as caught:
        load(values, ["mine.yaml"])
    message = str(caught.value)
    assert message.startswith("mine.yaml: ")
    assert key in message and f"did you mean {nearest!r}" in message


def test_a_name_that_nothing_has_is_named_with_the_nearest_one(values):
    values["self_improvement"]["rft"]["model"] = "tini"
    with pytest.raises(SwedagError, match=r"'tini' \(did you mean 'tiny'\?\)"):
        load(values, ["mine.yaml"])


def test_a_missing_key_and_a_wrong_value_are_named(values):
    del values["run"]
    values["shard_size"] = "many"
    with pytest.raises(SwedagError, match=r"'run' is missing.*shard_size: .*'many'"):
        load(values, ["mine.yaml"])


def test_no_config_at_all_says_what_to_type():
    with pytest.raises(SwedagError, match="--configfile"):
        load({}, [])


def test_self_improvement_stands_for_its_sets_and_policies(values):
    config = load(values, [DEMO])
    assert {"rft-0-train", "rft-1-train", "rft-0-eval", "rft-1-eval", "rft-2-eval"} <= set(config.rollouts)
    assert "rft-2-train" not in config.rollouts
    assert config.rollouts["rft-0-eval"].policy == "tiny"
    assert config.policies["rft-2"].training_set == "rft-2"
    start_from = values["self_improvement"]["rft"]["start_from"]
    assert config.policies["rft-2"].start == {"base": "tiny", "previous": "rft-1"}[start_from]


def test_more_runs_later_leave_the_full_blocks_as_they_are(values):
    config = load(values, [DEMO])
    rollouts = config.rollouts["rft-0-eval"].model_copy(update={"runs": 20, "runs_per_job": 8})
    assert rollouts.blocks() == [(0, 7), (8, 15), (16, 19)]
    assert rollouts.model_copy(update={"runs": 24}).blocks()[:2] == rollouts.blocks()[:2]


def test_shards_are_consecutive_cuts_of_the_sorted_ids(values):
    config = load(values, [DEMO])
    ids = config.instance_ids("eval")
    assert ids == sorted(ids)
    assert [name for number in range(config.shards("eval")) for name in config.shard("eval", number)] == ids
    assert Config.model_validate(values).shard("eval", 0) == ids[: config.shard_size]


def test_an_import_may_be_learned_from_but_not_scored_and_its_names_are_checked(values):
    dataset = next(iter(values["datasets"]))
    source = {"kind": "hub", "repo": "SWE-Gym/OpenHands-SFT-Trajectories", "revision": "0" * 40}
    values["imports"] = {"teacher": {"source": source | {"split": "train.success.oss"}, "dataset": dataset}}
    values["training_sets"] = {"taught": {"sets": ["teacher"], "model": next(iter(values["models"]))}}
    assert load(values, ["demo.yaml"]).training_sets["taught"].sets == ["teacher"]
    values["training_sets"]["taught"]["sets"] = ["teachers"]
    with pytest.raises(
        SwedagError, match=r"no rollout set or import is called 'teachers' \(did you mean 'teacher'\?\)"
    ):
        load(values, ["demo.yaml"])
    values["training_sets"]["taught"]["sets"] = ["teacher"]
    values["verifiers"] = {"judge": values["verifiers"]["judge"] | {"scores": ["teacher"]}}
    with pytest.raises(SwedagError, match="no rollout is called 'teacher'"):
        load(values, ["demo.yaml"])


@pytest.fixture(scope="module")
def paper():
    return load(yaml.safe_load(Path("config/paper.yaml").read_text()), ["config/paper.yaml"])


def test_every_table_and_figure_of_the_paper_finds_the_papers_values(paper):
    wanted = {"table1", "table2", "table3", "table4", "table5", "table6_lite", "table6_verified", "table7", "table8"}
    wanted |= {"table9", "table10", "section3_2", "section4"}
    wanted |= {
        "figure1_training",
        "figure1_inference",
        "figure2",
        "figure3",
        "figure4",
        "figure5",
        "figure6",
        "figure7",
        "figure8",
    }
    assert wanted <= paper.tables.keys() | paper.figures.keys()
    for name, shown in [*paper.tables.items(), *paper.figures.items()]:
        chosen = getattr(shown, "reference", None)
        if chosen is None:
            continue
        table = ReferenceTable(Path("config/reference") / f"{chosen.file}.csv")
        for position in range(len(chosen.rows) or 1):
            for column in chosen.columns.values():
                where = chosen.selection(position)
                where |= {"k": str(parse_ks(shown.k)[-1])} if shown.kind == "scaling" else {}
                where |= {"rank": "36"} if shown.kind == "successes" else {}
                where |= {"metric": "instances"} if shown.kind == "statistics" else {}
                where |= {"repo": "dask/dask"} if shown.kind in ("repositories", "sources") else {}
                where |= {"quantity": "tokens", "resolved": "yes"} if shown.kind == "lengths" else {}
                assert table.cells(where, column) is not None, (name, where, column)


def test_the_teachers_of_table_10_can_be_paid_for():
    files = [Path("config/paper.yaml"), Path("config/overlays/teachers.yaml")]
    config = load(read_together(files), files)
    table = config.tables["table10"]
    assert [config.endpoint_of(config.rollouts[name].policy) is not None for name in table.sets] == [True] * 10
    paper = ReferenceTable(Path("config/reference/table10_sampling_rounds.csv"))
    values = [paper.cells(table.reference.selection(place), "resolved_percent") for place in range(10)]
    assert values == [8.26, 4.78, 7.39, 9.13, 7.83, 8.7, 8.26, 29.1, 4.55, 7.71]
    drawn = [one.sets for name, one in config.training_sets.items() if name.startswith("oh-")]
    drawn += [one.sets for name, one in config.verifiers.items() if name.startswith("oh-")]
    assert not any("teacher" in sets for sets in drawn)
    assert config.rollouts["round-lite-t02"].settings.temperature == 0.2


def test_attempts_stand_in_one_table_for_each_verifier_of_a_set(paper):
    of_set = [name for name in paper.attempts_tables() if name.startswith("oh-32b-16-runs")]
    assert of_set == [
        "oh-32b-16-runs",
        "oh-32b-16-runs@oh-judge-mixture",
        "oh-32b-16-runs@oh-judge-on-policy",
        "oh-32b-16-runs@oh-judge-off-policy",
        "oh-32b-16-runs@oh-judge-off-policy-2x",
    ]


def test_run_0_is_a_job_and_a_table_of_its_own_where_it_is_greedy(paper):
    assert paper.rollouts["oh-32b-16-runs"].blocks() == [(0, 0), (1, 4), (5, 8), (9, 12), (13, 15)]
    assert "oh-32b-16-runs.first" in paper.tables["table3"].sets
    values = yaml.safe_load(Path("config/paper.yaml").read_text())
    values["tables"]["table5"]["sets"][0] = "ml-7b-0-eval.first"
    with pytest.raises(SwedagError, match=r"no rollout set, or .* SET\.first, is called 'ml-7b-0-eval\.first'"):
        load(values, ["paper.yaml"])


def test_a_table_of_code_needs_ids(paper):
    values = yaml.safe_load(Path("config/paper.yaml").read_text())
    values["tables"]["table2"]["datasets"] = ["swe-gym-all"]
    with pytest.raises(SwedagError, match=r"tables\.table2\.code: .*datasets\.swe-gym-all\.ids"):
        load(values, ["paper.yaml"])


def test_an_image_that_is_made_here_must_be_one_of_those_that_are(values):
    values["serve_image"] = "./results/images/tools/serve-gpu.sif"
    assert load(values, ["mine.yaml"]).serve_image == "results/images/tools/serve-gpu.sif"
    values["serve_image"] = "results/images/tools/serve-gpus.sif"
    with pytest.raises(SwedagError, match=r"serve_image: .*no such image is made here; known: .*serve-gpu\.sif"):
        load(values, ["mine.yaml"])


@pytest.mark.parametrize(
    ("block", "name", "key", "value", "message"),
    [
        (
            "tables",
            "scaling",
            "sets",
            ["rft-2-evl"],
            "tables.scaling.sets: no rollout set, or SET@VERIFIER or SET.first, is called",
        ),
        ("figures", "scaling", "sets", ["rft-1-eval@judge"], "figures.scaling.sets: no rollout set, or SET@VERIFIER"),
        ("tables", "sets", "training_sets", ["rft-3"], "tables.sets.training_sets: no training_set is called 'rft-3'"),
        ("tables", "statistics", "datasets", ["lite"], "tables.statistics.datasets: no dataset is called 'lite'"),
        ("figures", "training", "policies", ["rft-9"], "figures.training.policies: no model or policy is called"),
    ],
)
def test_what_a_table_or_figure_shows_must_exist(values, block, name, key, value, message):
    values[block][name][key] = value
    with pytest.raises(SwedagError, match=message):
        load(values, [DEMO])


TEACHER = {"kind": "endpoint", "base_url": "https://api.example.org/v1", "model": "big", "key_variable": "TEACHER_KEY"}


def with_teacher(values, settings, **changes):
    values["models"]["teacher"] = TEACHER | changes
    sampling = values["self_improvement"]["rft"]["sample"]
    values["rollouts"] = {"taught": {**sampling, "policy": "teacher", "settings": {**sampling["settings"], **settings}}}
    return load(values, [DEMO])


def test_an_endpoint_is_a_policy_without_a_folder(values):
    config = with_teacher(values, {"max_dollars": 5}, dollars_per_million={"input": 1, "output": 2})
    assert config.endpoint_of("teacher").base_url == TEACHER["base_url"]
    assert config.endpoint_of("tiny") is None
    assert "results/models/teacher" not in config.restorable()


def test_an_endpoint_cannot_be_trained_and_has_no_tokenizer(values):
    values["training_sets"] = {"taught": {"sets": ["taught"], "model": "teacher"}}
    with pytest.raises(
        SwedagError, match=r"training_sets\.taught\.model: 'teacher' is an endpoint, which has no weights"
    ):
        with_teacher(values, {})


def test_a_limit_to_spending_needs_prices(values):
    with pytest.raises(SwedagError, match="max_dollars: calls of 'teacher' have no price"):
        with_teacher(values, {"max_dollars": 5})
    del values["rollouts"]
    values["self_improvement"]["rft"]["evaluate"]["settings"]["max_dollars"] = 5
    with pytest.raises(
        SwedagError, match=r"rollouts\.rft-0-eval\.settings\.max_dollars: calls of 'tiny' have no price"
    ):
        load(values, [DEMO])
