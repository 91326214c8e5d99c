import base64
import json
import warnings
from pathlib import Path

import pytest
from rocrate.rocrate import ROCrate

from swedag.errors import SwedagError
from swedag.provenance import main as provenance
from swedag.provenance.lineage import main as lineage
from swedag.provenance.records import Lineage, digest, read_records, upstream

JOBS = {
    "results/images/envs/py311.sif": ("environment_image", []),
    "results/example/instances/eval.jsonl": ("synthesize", ["results/images/envs/py311.sif"]),
    "results/example/images/eval/shard-0.images.jsonl": ("layers", ["results/example/instances/eval.jsonl"]),
    "results/models/tiny": ("base_model", ["workflow/swedag/models.py"]),
    "results/example/rollouts/rft-0-eval/runs-0-3/shard-0.jsonl": (
        "rollouts",
        [
            "results/example/instances/eval.jsonl",
            "results/example/images/eval/shard-0.images.jsonl",
            "results/models/tiny",
        ],
    ),
    "results/example/grades/rft-0-eval/runs-0-3/shard-0.jsonl": (
        "grade",
        ["results/example/rollouts/rft-0-eval/runs-0-3/shard-0.jsonl"],
    ),
    "results/example/attempts/rft-0-eval.csv": (
        "attempts",
        ["results/example/grades/rft-0-eval/runs-0-3/shard-0.jsonl"],
    ),
    "results/example/attempts/other.csv": ("attempts", []),
    "results/example/tables/policies.csv": (
        "table",
        ["results/example/attempts/rft-0-eval.csv", "results/example/attempts/other.csv", "workflow/swedag/tables.py"],
    ),
}


CONTENTS = {
    ".csv": "label,set\none,rft-0-eval\ntwo,other\nside by side,\n",
    # A layer built here, a published image, and one that is missing.
    ".images.jsonl": "".join(
        json.dumps({"instance_id": name, "file": file, "sha256": "0" * 64, "bytes": 9, "digest": digest}) + "\n"
        for name, file, digest in (("a-1", "a-1.sqsh", ""), ("b-2", "b-2.sif", "sha256:1234"), ("c-3", "", ""))
    ),
}


def records(root: Path) -> None:
    """Snakemake's records of JOBS, and a file for everything that is not there yet."""
    folder = root / ".snakemake/metadata"
    for output, (rule, inputs) in JOBS.items():
        for name in [output, *inputs]:
            path = root / name
            if not path.suffix:
                path.mkdir(parents=True, exist_ok=True)
                path = path / "config.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_text(CONTENTS.get("".join(path.suffixes), f"{name}\n"))
        encoded = base64.urlsafe_b64encode(output.encode()).decode()
        place = folder / f"@{encoded[:9]}" / encoded[9:] if rule == "grade" else folder / encoded
        place.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "rule": rule, "input": inputs, "params": [f"'seed': {len(rule)}"], "shellcmd": f"swedag {rule}", "log": [],
            "starttime": 1.7e9, "endtime": 1.7e9 + 5, "incomplete": False, "input_checksums": {}, "unknown_to_us": 1,
        }  # fmt: skip
        place.write_text(json.dumps(record))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    records(tmp_path)
    return tmp_path


def test_records_are_found_under_their_encoded_names(root):
    found = read_records(root)
    assert set(found) == set(JOBS) and found["results/models/tiny"].rule == "base_model"
    assert read_records(root / "elsewhere") == {}
    (root / ".snakemake/metadata/!!!").write_text("{}")
    with pytest.raises(SwedagError, match="not a record of Snakemake"):
        read_records(root)


def test_the_hash_of_a_folder_is_of_its_names_and_contents(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep/file").write_text("same")
    (tmp_path / "b/.snakemake_timestamp").touch()
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    (tmp_path / "b/deep/file").rename(tmp_path / "b/deep/other")
    assert digest(tmp_path / "a") != digest(tmp_path / "b")
    assert digest(tmp_path / "absent") is None


def test_one_byte_changes_exactly_the_hashes_above_it(root):
    table = "results/example/tables/policies.csv"
    before = upstream([Lineage(root).node(table)])
    model = root / "results/models/tiny/config.json"
    model.write_text(model.read_text() + "x")
    after = upstream([Lineage(root).node(table)])
    changed = {path for path in before if before[path].lineage != after[path].lineage}
    assert changed == {
        "results/models/tiny",
        "results/example/rollouts/rft-0-eval/runs-0-3/shard-0.jsonl",
        "results/example/grades/rft-0-eval/runs-0-3/shard-0.jsonl",
        "results/example/attempts/rft-0-eval.csv",
        table,
    }
    assert {path for path in before if before[path].sha256 != after[path].sha256} == {"results/models/tiny"}


def test_the_tree_names_every_file_with_its_rule(root, capsys):
    lineage(Path("results/example/tables/policies.csv"), root=root)
    text = capsys.readouterr().out
    names = {name for output, (_, inputs) in JOBS.items() for name in [output, *inputs]}
    assert all(name in text for name in names)
    assert "'seed': 10" in text and "synthesize" in text
    assert f"{len(names)} files in all, 2 of them code of swedag" in text and "2 images, whose digests" in text
    lineage(Path("results/example/tables/policies.csv"), "two", root=root)
    text = capsys.readouterr().out
    assert "attempts/other.csv" in text and "rft-0-eval" not in text and "workflow/swedag/tables.py" in text
    lineage(Path("results/example/tables/policies.csv"), "1", root=root)
    assert "rft-0-eval.csv" in capsys.readouterr().out
    lineage(Path("results/example/tables/policies.csv"), "side by side", root=root)
    text = capsys.readouterr().out
    assert "attempts/other.csv" in text and "rft-0-eval.csv" in text and f"{len(names)} files in all" in text


def test_the_tree_as_json(root, capsys):
    lineage(Path("results/example/tables/policies.csv"), as_json=True, root=root)
    found = json.loads(capsys.readouterr().out)
    assert found["results/models/tiny"]["inputs"] == ["workflow/swedag/models.py"]
    assert found["workflow/swedag/models.py"]["rule"] is None
    images = {path: entry["images"] for path, entry in found.items() if "images" in entry}
    assert images == {
        "results/example/images/eval/shard-0.images.jsonl": {"a-1": f"sha256:{'0' * 64}", "b-2": "sha256:1234"}
    }
    assert all(len(entry["sha256"]) == len(entry["lineage"]) == 64 for entry in found.values())


@pytest.mark.parametrize(
    ("file", "row", "message"),
    [
        ("results/none.csv", "", "no such file"),
        ("workflow/swedag/tables.py", "", "Snakemake has no record of making it"),
        ("results/example/tables/policies.csv", "9", "no row '9'; give a number from 1 to 3"),
    ],
)
def test_questions_without_an_answer(root, file, row, message):
    with pytest.raises(SwedagError, match=message):
        lineage(Path(file), row, root=root)


def test_what_changed_since_is_told(root, capsys):
    place = next(p for p in (root / ".snakemake/metadata").rglob("*") if p.is_file() and '"table"' in p.read_text())
    record = json.loads(place.read_text())
    # As Snakemake 9 writes them.
    same = f"sha256:{digest(root / 'results/example/attempts/other.csv')}"
    record["input_checksums"] = {
        "workflow/swedag/tables.py": f"sha256:{'0' * 64}",
        "results/example/attempts/other.csv": same,
    }
    place.write_text(json.dumps(record))
    lineage(Path("results/example/tables/policies.csv"), root=root)
    changed = [line for line in capsys.readouterr().out.splitlines() if "changed since" in line]
    assert len(changed) == 1 and "workflow/swedag/tables.py" in changed[0]


def test_the_crate_is_read_back_by_rocrate(root, monkeypatch):
    monkeypatch.chdir(root)
    Path("demo.yaml").write_text("run: example\n")
    Path("workflow/Snakefile").write_text("rule all:\n")
    output = Path("results/example/ro-crate-metadata.json")
    provenance("example", [Path("demo.yaml")], Path("workflow/Snakefile"), output)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        crate = ROCrate(root / "results/example")
    assert "ComputationalWorkflow" in crate.mainEntity.type
    actions = {entity["name"]: entity for entity in crate.get_by_type("CreateAction")}
    assert set(actions) == {"run example"} | {f"{rule}: {name}" for name, (rule, _) in JOBS.items()}
    table = actions["table: results/example/tables/policies.csv"]
    assert [entity.id for entity in table["result"]] == ["tables/policies.csv"]
    assert "arcp://name,swedag/workflow/swedag/tables.py" in [entity.id for entity in table["object"]]
    assert table["instrument"]["name"] == "table" and table["startTime"].startswith("2023-11-14T22:13:20")
    for entity in crate.get_by_type("File"):
        if entity.id != "ro-crate-metadata.json":
            assert len(entity["sha256"]) == 64, entity.id
    assert crate.dereference("tables/policies.csv")["sha256"] == digest(root / "results/example/tables/policies.csv")
    first = output.read_bytes()
    provenance("example", [Path("demo.yaml")], Path("workflow/Snakefile"), output)
    kept = [{k: v for k, v in e.items() if k != "datePublished"} for e in json.loads(output.read_text())["@graph"]]
    assert kept == [{k: v for k, v in e.items() if k != "datePublished"} for e in json.loads(first)["@graph"]]


def test_without_records_there_is_no_provenance(tmp_path):
    with pytest.raises(SwedagError, match="no records"):
        provenance("x", [], Path("workflow/Snakefile"), tmp_path / "c.json", root=tmp_path)
