"""Writes a small finished run below this folder, from the record models alone: what tables, figures and report read.

    python tests/data/example/build.py [FOLDER] [INSTANCES]

Three policies on one set of instances, four runs each, a verifier's scores for the last; one image that fails its gate,
one lost server, hostile text in an issue and in a patch. Seeded, so that equal code writes equal bytes.
"""

import difflib
import math
import random
import sys
from pathlib import Path

from swedag.artifacts import sha256, write_json, write_jsonl
from swedag.grades import Grade
from swedag.instances import Instance, Target
from swedag.trajectory import Message, Rollout

RUNS = 4
SETS = {"rft-0-eval": "tiny", "rft-1-eval": "rft-1", "rft-2-eval": "rft-2"}
SKILL = {"rft-0-eval": 0.25, "rft-1-eval": 0.5, "rft-2-eval": 0.62}
HOSTILE = '<script>alert(document.cookie)</script> \x1b[31m & "quoted" </pre><img src=x onerror=alert(1)>'
FUNCTIONS = [
    (
        "semver-3.0.2",
        "src/semver/version.py",
        "Version.bump_minor",
        "    def bump_minor(self):\n        cls = type(self)\n        return cls(self._major, self._minor + 1)\n",
        "self._minor + 1",
        "self._minor - 1",
        "an operator is wrong",
    ),
    (
        "tinydb-4.8.0",
        "tinydb/utils.py",
        "LRUCache.get",
        "    def get(self, key, default=None):\n"
        "        value = self.cache.get(key)\n        if value is not None:\n"
        "            self.cache.move_to_end(key, last=True)\n            return value\n        return default\n",
        "is not None",
        "is None",
        "a condition is turned round",
    ),
    (
        "sqlparse-0.5.3",
        "sqlparse/utils.py",
        "remove_quotes",
        "def remove_quotes(val):\n    if val is None:\n        return\n"
        "    if val[0] in ('\"', \"'\") and val[0] == val[-1]:\n        val = val[1:-1]\n    return val\n",
        "val[1:-1]",
        "val[0:-1]",
        "a number is off by one",
    ),
    (
        "wcwidth-0.2.13",
        "wcwidth/wcwidth.py",
        "wcswidth",
        "def wcswidth(pwcs, n=None):\n    width = 0\n"
        "    for char in pwcs[:n]:\n        step = wcwidth(char)\n        if step < 0:\n            return -1\n"
        "        width += step\n    return width\n",
        "step < 0",
        "step <= 0",
        "a comparison is wrong",
    ),
]


def instance(number: int) -> Instance:
    package, path, function, code, good, bad, fault = FUNCTIONS[number % len(FUNCTIONS)]
    name = f"{package}.eval-{number:03d}"
    test = f"tests/test_{function.rsplit('.', 1)[-1]}.py::test_case_{number}"
    issue = f"`{function}` in `{path}` gives a wrong result: {fault}. Failing test: `{test}`."
    return Instance(
        instance_id=name,
        repo=package.rsplit("-", 1)[0],
        version=package.rsplit("-", 1)[1],
        problem_statement=issue + (f" {HOSTILE}" if number == 1 else ""),
        patch=diff(path, code.replace(good, bad), code),
        bug_patch=diff(path, code, code.replace(good, bad)),
        FAIL_TO_PASS=[test],
        PASS_TO_PASS=[f"{test}_{other}" for other in "abc"],
        environment="py311",
        source=f"sdist:{package.replace('-', '==')}",
        test_command="python -m pytest -rA",
        test_files=[test.split("::", 1)[0]],
        target=Target(path=path, function=function, first_line=1, last_line=code.count("\n")),
    )


def diff(path: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"a/{path}", f"b/{path}")
    return f"diff --git a/{path} b/{path}\n" + "".join(lines) if before != after else ""


def attempt(name: str, number: int, run: int, rng: random.Random) -> tuple[Rollout, Grade, float | None]:
    task = instance(number)
    _, path, _, code, good, bad, _ = FUNCTIONS[number % len(FUNCTIONS)]
    broken = code.replace(good, bad)
    lost = name == "rft-1-eval" and (number, run) == (2, 3)
    draw = rng.random()
    solved = draw < SKILL[name] * (0.6 + 0.8 * ((number * 7919) % 10) / 10) and not lost
    empty = not solved and rng.random() < 0.3
    after = code if solved else broken.replace("return", f"return  # {HOSTILE}" if number == 1 else "pass  # return", 1)
    patch = "" if empty or lost else diff(path, broken, after)
    reply = (
        "no edit" if empty else f"{1 + broken[: broken.index(bad)].count(chr(10))}| {bad} => {good if solved else '0'}"
    )
    shown = "\n".join(f"{line}| {text}" for line, text in enumerate(broken.splitlines(), 1))
    rollout = Rollout(
        instance_id=task.instance_id,
        run=run,
        policy=SETS[name],
        scaffold="single_edit",
        seed=run,
        temperature=0.8,
        messages=[
            Message(role="user", content=f"{task.problem_statement}\n\n{shown}"),
            *([] if lost else [Message(role="assistant", content=reply)]),
        ],
        patch=patch,
        exit="infrastructure" if lost else "submitted",
        error="the server closed the connection" if lost else "",
        turns=0 if lost else 1,
        prompt_tokens=0 if lost else 90 + len(shown) // 4,
        completion_tokens=0 if lost else len(reply) // 3,
        seconds=0.25,
    )
    tests = {test: "PASSED" for test in task.PASS_TO_PASS}
    tests[task.FAIL_TO_PASS[0]] = "PASSED" if solved else "FAILED"
    grade = Grade(
        instance_id=task.instance_id,
        run=run,
        patch_sha256=sha256(patch),
        outcome="infrastructure_failure"
        if lost
        else "resolved"
        if solved
        else "empty_patch"
        if empty
        else "unresolved",
        resolved=None if lost else solved,
        official_resolved=None if lost else solved,
        reason="" if solved else "the rollout has no verdict" if lost else "a named test does not pass",
        tests={} if lost or empty else tests,
        log_tail="" if lost or empty else f"=== {len(tests)} tests ran ===\n{HOSTILE if number == 1 else ''}",
        seconds=1.5,
    )
    score = min(0.98, max(0.02, rng.gauss(0.68 if solved else 0.33, 0.2)))
    return rollout, grade, None if (number, run) == (3, 0) else round(score, 6)


def main(folder: Path, size: int) -> None:
    run_dir = folder / "results" / "example"
    tasks = [instance(number) for number in range(size)]
    write_jsonl(run_dir / "instances" / "eval.jsonl", tasks)
    ledger = [gate(task, passed=number != size - 1) for number, task in enumerate(tasks)]
    write_jsonl(run_dir / "images/eval/shard-0.gates.jsonl", ledger)
    for name in SETS:
        rng = random.Random(name)
        rows = [attempt(name, number, run, rng) for run in range(RUNS) for number in range(size)]
        tail = f"{name}/runs-0-{RUNS - 1}/shard-0.jsonl"
        write_jsonl(run_dir / "rollouts" / tail, [rollout for rollout, _, _ in rows])
        write_jsonl(run_dir / "grades" / tail, [grade for _, grade, _ in rows])
        if name == "rft-2-eval":
            scores = [
                {
                    "instance_id": rollout.instance_id,
                    "run": rollout.run,
                    "score": score,
                    "error": "" if score else "too long",
                }
                for rollout, _, score in rows
            ]
            write_jsonl(run_dir / "scores" / "judge" / tail, scores)
    for iteration in (1, 2):
        write_json(run_dir / "sft" / f"rft-{iteration}.card.json", card(iteration))
        steps = [
            {"step": step, "epoch": step / 20, "loss": round(2.2 * math.exp(-step / (60 / iteration)) + 0.1, 4)}
            for step in range(5, 105, 5)
        ]
        write_jsonl(run_dir / "checkpoints" / f"rft-{iteration}" / "training.jsonl", steps)


def gate(task: Instance, *, passed: bool) -> dict[str, object]:
    return {
        "instance_id": task.instance_id,
        "layer_sha256": sha256(task.bug_patch),
        "bytes": 90_000,
        "inodes": 60,
        "environment": task.environment,
        "environment_sha256": sha256(task.environment),
        "apptainer": "1.4.0",
        "gold_outcome": "resolved" if passed else "unresolved",
        "empty_outcome": "unresolved",
        "passed": passed,
        "reason": "" if passed else "the gold patch is unresolved: a named test does not pass",
    }


def card(iteration: int) -> dict[str, object]:
    return {
        "name": f"rft-{iteration}",
        "left_after": {"rollouts": 480 * iteration, "resolved": 190 * iteration, "cap": 96 * iteration},
        "instances": 70 + 20 * iteration,
        "repositories": {"semver": 60, "sqlparse": 72 * iteration, "tinydb": 24},
        "tokens_resolved": {"count": 190 * iteration, "p50": 131.0},
        "messages": {"count": 96 * iteration, "mean": 2.0},
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent, int(sys.argv[2]) if sys.argv[2:] else 6)
