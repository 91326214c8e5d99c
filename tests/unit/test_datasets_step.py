"""From rows to instances: what is kept, what is left out and why, and that the plan knows it beforehand."""

import csv
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from swedag.cli import STEPS
from swedag.config import load
from swedag.datasets.exclusions import FOLDER as EXCLUSIONS
from swedag.datasets.exclusions import exclusion_file, read_exclusions
from swedag.datasets.hub import HubSource, fetch
from swedag.datasets.hub import main as fetch_dataset
from swedag.datasets.specs import FOLDER as SPECS
from swedag.datasets.step import PublishedSettings, main, read_ids
from swedag.errors import SwedagError
from swedag.instances import read_instances
from tests.unit.test_datasets_published import DATA, real_rows, torn, without, written

LISTS = Path("config/instances")
MOTO = "tests/data/instances/swe_gym_moto.jsonl"
LITE = {"kind": "hub", "repo": "SWE-Gym/SWE-Gym-Lite", "revision": "f70b1a29ab120eb0a0ee7a1deb029825e735b2b0"}


def settings(path=MOTO, **values) -> PublishedSettings:
    return PublishedSettings.model_validate(
        {"kind": "published", "source": {"kind": "file", "path": str(path)}} | values
    )


def run(tmp_path: Path, chosen: PublishedSettings, rows: Path | None = None):
    """Instances by id, and the report's rows."""
    output, report = tmp_path / "out.jsonl", tmp_path / "out.rows.csv"
    main(chosen.model_dump_json(), rows or Path(chosen.source.rows_file()), output, report)
    return read_instances(output), reported(report)


def reported(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    ("path", "environments"),
    [
        ("swe_gym_moto", {"getmoto__moto-0.4-5.0"}),
        (
            "swebench_verified_5",
            {
                "django__django-3.0-3.2",
                "pylint-dev__pylint-2.9-2.17",
                "scikit-learn__scikit-learn-0.20-0.22",
                "sphinx-doc__sphinx-3.0-4.0",
                "sympy__sympy-0.7-1.12",
            },
        ),
    ],
)
def test_every_real_row_becomes_an_instance(tmp_path, path, environments):
    chosen = settings(DATA / f"{path}.jsonl")
    instances, report = run(tmp_path, chosen)
    published = [json.loads(line)["instance_id"] for line in (DATA / f"{path}.jsonl").read_text().splitlines()]
    assert list(instances) == sorted(published) == chosen.instance_ids()
    assert {row.environment for row in instances.values()} == environments
    assert [(row["line"], row["instance_id"], row["kept"]) for row in report] == [
        (str(line), name, "yes") for line, name in enumerate(published, 1)
    ]


def test_an_instance_carries_what_its_spec_says(tmp_path):
    instances, _ = run(tmp_path, settings(DATA / "swebench_verified_5.jsonl"))
    django = instances["django__django-10973"]
    assert django.test_files == ["dbshell.test_postgresql"] and django.log_parser == "django"
    assert django.test_command.endswith("./tests/runtests.py --verbosity 2 --settings=test_sqlite --parallel 1")
    assert django.source == "git:https://github.com/django/django" and len(django.base_commit) == 40
    moto = run(tmp_path, settings())[0]["getmoto__moto-7365"]
    assert (moto.test_command, moto.test_files) == (
        "pytest -n0 -rA",
        ["tests/test_dynamodb/test_dynamodb_update_expressions.py"],
    )


@pytest.fixture
def broken(tmp_path):
    """Line 1 sound, 2 torn, 3 sound, 4 without a field, 5 the first again, 6 sound."""
    first, second, third = real_rows()
    return written(tmp_path / "rows.jsonl", [first, torn(second), second, without("patch")(third), first, third])


def test_unusable_rows_stop_the_run_when_they_are_to_be_refused(tmp_path, broken):
    with pytest.raises(SwedagError) as caught:
        run(tmp_path, settings(broken))
    message = str(caught.value)
    assert message.startswith(f"{broken}: 3 of 6 rows cannot be used: line 2: malformed: not JSON")
    assert "line 4: malformed: patch: is missing" in message and "line 5: duplicate: line 1" in message
    assert "on_malformed: skip" in message and not (tmp_path / "out.jsonl").exists()
    with pytest.raises(SwedagError, match="line 2"):
        settings(broken).instance_ids()  # the plan refuses, too


def test_unusable_rows_are_left_out_and_reported_when_they_are_to_be_skipped(tmp_path, broken):
    chosen = settings(broken, on_malformed="skip")
    instances, report = run(tmp_path, chosen)
    assert list(instances) == chosen.instance_ids() == [f"getmoto__moto-{number}" for number in (5876, 6920, 7365)]
    assert [(row["line"], row["kept"], row["reason"]) for row in report] == [
        ("1", "yes", ""),
        ("2", "no", "malformed"),
        ("3", "yes", ""),
        ("4", "no", "malformed"),
        ("5", "no", "duplicate"),
        ("6", "yes", ""),
    ]
    assert report[3]["instance_id"] == "getmoto__moto-5876" and report[3]["detail"] == "patch: is missing"


def test_every_row_left_out_has_its_reason(tmp_path):
    first, second, third = real_rows()
    rows = [
        first,
        second | {"instance_id": "getmoto__moto-1", "version": "99.0"},
        second | {"instance_id": "nobody__nothing-1", "repo": "nobody/nothing"},
        second | {"instance_id": "getmoto__moto-2", "test_patch": "diff --git a/README.md b/README.md\n"},
        third | {"instance_id": "Project-MONAI__MONAI-7604"},
        third,
    ]
    path = written(tmp_path / "rows.jsonl", rows)
    wanted = [row["instance_id"].upper() for row in rows[:5]]
    chosen = settings(path, ids=[*wanted, "getmoto__moto-404"], exclude=["missing-images"], on_malformed="skip")
    instances, report = run(tmp_path, chosen)
    assert list(instances) == chosen.instance_ids() == [first["instance_id"]]
    assert {row["instance_id"]: (row["reason"], row["detail"]) for row in report if row["kept"] == "no"} == {
        "getmoto__moto-1": ("no environment", "the spec of getmoto/moto has no version '99.0'"),
        "nobody__nothing-1": ("no environment", "no spec for repository nobody/nothing"),
        "getmoto__moto-2": ("no environment", "the test patch has no file that a test runner could be given"),
        "Project-MONAI__MONAI-7604": ("excluded: missing-images", "its image is absent from Docker Hub"),
        third["instance_id"]: ("not asked for", ""),
        "getmoto__moto-404": ("absent", "no usable row has this id"),
    }
    assert len(report) == len(rows) + 1


def test_an_id_that_no_row_has_is_refused(tmp_path):
    with pytest.raises(SwedagError, match=r"no row has 1 of the ids that were asked for: getmoto__moto-404"):
        run(tmp_path, settings(ids=["getmoto__moto-404", "getmoto__moto-7365"]))


def test_the_ids_of_a_hub_dataset_are_known_without_its_rows():
    chosen = PublishedSettings(kind="published", source=LITE, ids=str(LISTS / "swe-gym-lite.txt"))
    assert len(chosen.instance_ids()) == 230 and chosen.instance_ids() == sorted(chosen.instance_ids())
    fewer = PublishedSettings(kind="published", source=LITE, ids=chosen.ids, exclude=["gold-fails", "flaky"])
    excluded = read_exclusions(map(exclusion_file, fewer.exclude))
    assert set(chosen.instance_ids()) - set(fewer.instance_ids()) == {
        name for name in chosen.instance_ids() if name.lower() in excluded
    }
    assert 200 < len(fewer.instance_ids()) < 230
    with pytest.raises(ValidationError, match="a dataset of the Hub with images needs its ids"):
        PublishedSettings(kind="published", source=LITE, images={"source": "registry"})


def test_all_rows_of_the_hub_can_be_counted_without_a_list_of_them(tmp_path):
    chosen = PublishedSettings(kind="published", source=LITE)
    assert chosen.instance_ids() == [] and chosen.environments() == {}
    assert chosen.input_files()["specs"] == sorted(str(path) for path in SPECS.glob("*.yaml"))
    path = written(tmp_path / "rows.jsonl", real_rows())
    assert len(run(tmp_path, chosen, path)[0]) == 3


def test_rows_of_the_hub_that_the_plan_could_not_know_are_named(tmp_path):
    first, second, _ = real_rows()
    path = written(tmp_path / "rows.jsonl", [first, second | {"version": "99.0"}])
    chosen = PublishedSettings(kind="published", source=LITE, ids=[first["instance_id"], second["instance_id"]])
    with pytest.raises(SwedagError, match=r"getmoto__moto-6920 \(no environment: .*99\.0.*take them out of `ids`"):
        run(tmp_path, chosen, path)
    assert len(reported(tmp_path / "out.rows.csv")) == 2


def test_a_split_is_taken_from_the_hubs_cache_without_a_network(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow
    from huggingface_hub import constants

    source = HubSource(**LITE)
    cache = tmp_path / "hub"
    data = cache / f"datasets--SWE-Gym--SWE-Gym-Lite/snapshots/{source.revision}/data"
    data.mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(real_rows()[:2]), data / "train-00000-of-00002.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(real_rows()[2:]), data / "train-00001-of-00002.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(real_rows()), data / "test-00000-of-00001.parquet")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert [path.name for path in fetch(source)] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    output = tmp_path / "rows.parquet"
    fetch_dataset(source.repo, source.revision, source.split, output)
    chosen = PublishedSettings(kind="published", source=LITE, ids=[row["instance_id"] for row in real_rows()])
    assert list(run(tmp_path, chosen, output)[0]) == chosen.instance_ids()
    (data / "train-00000-of-00002.parquet").unlink()
    for absent in (
        source,
        source.model_copy(update={"split": "dev"}),
        source.model_copy(update={"revision": "0" * 40}),
    ):
        with pytest.raises(
            SwedagError, match=f"{absent.revision}, split {absent.split}: neither in the Hub's cache nor"
        ):
            fetch(absent)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"exclude": ["missing-image"]}, "no list is called 'missing-image'.*did you mean 'missing-images'"),
        ({"ids": "config/instances/absent.txt"}, "absent.txt cannot be read"),
        ({"ids": ["a__b-1", "A__b-1"]}, "1 ids stand more than once"),
        ({"ids": ["../../etc/passwd"]}, "'../../etc/passwd' is no instance_id"),
    ],
)
def test_lists_that_are_not_there_are_named(values, message):
    with pytest.raises(SwedagError, match=message):
        settings(**values).instance_ids()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"exclud": []}, r"unknown key 'datasets\.gym\.published\.exclud' \(did you mean 'exclude'"),
        ({"on_malformed": "ignore"}, "on_malformed: Input should be 'refuse' or 'skip'"),
        ({"source": {"kind": "file", "path": "rows.csv"}}, "source.file.path: String should match pattern"),
        ({"source": LITE | {"revision": "main"}}, "source.hub.revision: String should match pattern"),
        ({"kind": "publishd"}, "datasets.gym: "),
    ],
)
def test_a_mistake_in_the_config_is_named(values, message):
    dataset = {"kind": "published", "source": {"kind": "file", "path": MOTO}} | values
    with pytest.raises(SwedagError, match=message):
        load({"run": "mine", "datasets": {"gym": dataset}}, ["mine.yaml"])


def test_rows_without_images_can_be_counted_but_not_run():
    rows = {"kind": "published", "source": {"kind": "file", "path": MOTO}}
    rollouts = {"policy": "m", "dataset": "gym", "runs": 1, "settings": {"scaffold": {"kind": "mini"}}}
    values = {"run": "mine", "models": {"m": {"kind": "folder", "path": "m"}}, "datasets": {"gym": rows}}
    assert load(values, []).runnable_datasets() == []
    with pytest.raises(
        SwedagError, match=r"rollouts\.r\.dataset: 'gym' has no images to run in; set datasets\.gym\.images"
    ):
        load(values | {"rollouts": {"r": rollouts}}, [])
    values["datasets"] = {"gym": rows | {"images": {"source": "registry"}}}
    assert load(values | {"rollouts": {"r": rollouts}}, []).runnable_datasets() == ["gym"]


def test_a_config_without_a_kind_is_a_synthesised_dataset():
    values = {"environment": "py", "packages": {"a==1": 2}, "split": "eval"}
    config = load(
        {"run": "mine", "environments": {"py": {"requirements": ["pytest==8.4.2"]}}, "datasets": {"d": values}}, []
    )
    assert config.datasets["d"].kind == "synthesized" and config.instance_ids("d") == ["a-1.eval-000", "a-1.eval-001"]


def test_the_lists_of_the_project_are_sound():
    sizes = {path.stem: len(read_ids(path)) for path in LISTS.glob("*.txt")}
    assert sizes == {
        "swe-bench-lite": 300,
        "swe-bench-verified": 500,
        "swe-gym-lite": 230,
        "swe-gym-openhands-verified": 2119,
    }
    for path in LISTS.glob("*.txt"):
        assert len({name.lower() for name in read_ids(path)}) == sizes[path.stem]
        assert path.read_text().startswith("# ")
    gym = {name.lower() for name in read_ids(LISTS / "swe-gym-lite.txt")}
    assert not gym & set(read_exclusions([exclusion_file("missing-images")]))
    counts = {path.stem: len(read_exclusions([path])) for path in EXCLUSIONS.glob("*.csv")}
    assert counts == {
        "missing-images": 36,
        "gold-needs-network": 56,
        "gold-fails": 230,
        "flaky": 4,
        "statement-mismatch": 4,
    }


def test_steps_are_on_the_command_line():
    assert {"fetch-dataset", "instances"} <= set(STEPS)
