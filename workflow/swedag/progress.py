"""How far a step is: a bar on a terminal, lines in a log; and work on many items at once under such a bar."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

CONSOLE = Console(stderr=True)
Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Callable[[], None]]:
    """A bar on a terminal; in a log a line at every tenth."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=CONSOLE, disable=not CONSOLE.is_terminal) as bar:
        task, count = bar.add_task(label, total=total, completed=done), done

        def advance() -> None:
            nonlocal count
            count += 1
            bar.advance(task)
            if bar.disable and (count * 10 // total > (count - 1) * 10 // total):
                CONSOLE.print(f"{label}: {count} of {total}", highlight=False, soft_wrap=True)

        yield advance


def each(label: str, work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> list[Result]:
    """`work` on each item, `workers` at a time; results in the order of the items.

    The first error is raised; what was not begun by then is dropped.
    """
    with ThreadPoolExecutor(workers) as pool, progress(label, len(items)) as advance:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
                advance()
        finally:
            pool.shutdown(cancel_futures=True)
    return [future.result() for future in futures]
