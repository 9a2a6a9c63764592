"""The one bar of the program, on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from xclip_cli.cli import console


@contextmanager
def bar(title: str, total: int | None = None, hidden: bool = False, unit: str = "") -> Iterator[Callable]:
    """A bar that is gone afterwards; none where stderr is no terminal.

    The body calls ``update(done, total=None, failed=0)``; with a ``unit`` the rate is shown too.
    """
    note = [TextColumn("{task.fields[rate]} [red]{task.fields[failures]}")] if unit else []
    columns = TextColumn(title), BarColumn(), MofNCompleteColumn(), *note, TimeRemainingColumn()
    if hidden or not console.err().is_terminal:
        yield lambda done, total=None, failed=0: None
        return
    # stdout is for data: a bar must not take it over
    with Progress(*columns, console=console.err(), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("", total=total, rate="", failures="")

        def update(done: int, total: int | None = None, failed: int = 0) -> None:
            speed = progress.tasks[0].speed
            rate, failures = f"{speed:.1f} {unit}" if speed else "", f"{failed} failed" if failed else ""
            progress.update(task, completed=done, total=total, rate=rate, failures=failures)

        yield update
