"""How far a training is: steps, loss and the time to go; a bar on a terminal, in a log a line at every hundredth."""

import time
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

from swedag.progress import CONSOLE


class ShowProgress(TrainerCallback):  # type: ignore[misc]
    """Shown by the main process alone. The time to go is that of the steps since this start, not before a resume."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or CONSOLE
        columns = (
            "training",
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._loss = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.is_world_process_zero:
            self._first, self._began = state.global_step, time.monotonic()
            self._task = self._bar.add_task("training", total=state.max_steps, completed=state.global_step, loss="")
            self._bar.start()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **others: Any) -> None:
        if "loss" in (logs or {}):
            self._loss = f"loss {float(logs['loss']):.4f}"  # type: ignore[index]

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if not state.is_world_process_zero:
            return
        step, total = state.global_step, state.max_steps
        self._bar.update(self._task, completed=step, loss=self._loss)
        if self._bar.disable and step * 100 // total > (step - 1) * 100 // total:
            pace = (time.monotonic() - self._began) / (step - self._first)
            left = timedelta(seconds=round(pace * (total - step)))
            words = (f"training: step {step} of {total}", self._loss, f"{left} to go")
            self._console.print(", ".join(filter(None, words)), highlight=False, soft_wrap=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self._bar.stop()
