"""A scratch git repository that answers the steps of a scaffold for real: commands in bash, files on the disk."""

import subprocess
from pathlib import Path

from swedag.scaffolds.protocol import Execute, Executed, Load, ReadFile, Step, Store


class Repository:
    """Stands for a sandbox: /testbed, /workspace and /tmp lie below `root`. Each command has a shell of its own."""

    def __init__(self, root: Path, files: dict[str, str]) -> None:
        self.root = root
        (root / "tmp").mkdir()
        (root / "testbed").mkdir()
        for name, text in files.items():
            file = root / "testbed" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self.git("init", "--quiet")
        self.git("add", "--all")
        self.git("-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "--message", "base")

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root / "testbed"), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def place(self, path: str) -> Path:
        return Path(self._inside(path if path.startswith("/") else f"/testbed/{path}"))

    def answer(self, step: Step) -> object:
        if isinstance(step, Execute):
            ran = subprocess.run(
                ["bash", "-c", self._inside(step.command)],
                cwd=self.root / "testbed",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                check=False,
            )
            return Executed(ran.stdout.replace(str(self.root), ""), ran.returncode)
        if isinstance(step, ReadFile):
            return self.place(step.path).read_text()
        if isinstance(step, Load):
            return self.place(step.path).read_bytes() if self.place(step.path).is_file() else None
        if isinstance(step, Store):
            self.place(step.path).write_bytes(step.content)
            return ""
        raise AssertionError(f"{step} is for the model")

    def _inside(self, text: str) -> str:
        for folder in ("/testbed", "/workspace", "/tmp/swedag"):
            text = text.replace(folder, f"{self.root}{folder}")
        return text
