"""The one bar and the one spinner of the program, on stderr: none where it is no terminal, none for quick work."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from xclip_cli.cli import console

_DELAY_SECONDS = 0.5  # what is done sooner shows nothing
_BAR_WIDTH = 24  # all columns fit into 80


@contextmanager
def bar(title: str, total: float | None = None, hidden: bool = False, unit: str = "") -> Iterator["Bar"]:
    """A bar that is gone afterwards; the body calls it with what is done."""
    made = Bar(title, total, hidden, unit)
    with made.visible():
        yield made


def spinner(title: str, hidden: bool = False) -> AbstractContextManager:
    """A spinner while the body runs."""
    progress = None if hidden else _progress(SpinnerColumn(), TextColumn("{task.description}"))
    if progress is None:
        return nullcontext()
    progress.add_task(title, total=None)
    return _late(progress)


def _progress(*columns) -> Progress | None:
    if not console.err().is_interactive:
        return None
    # stdout is for data: a bar must not take it over
    return Progress(*columns, console=console.err(), transient=True, redirect_stdout=False)


@contextmanager
def _late(progress: Progress) -> Iterator[None]:
    """Draw it from half a second on, and no more afterwards."""

    def draw() -> None:
        with suppress(RuntimeError):  # where no thread can be started nothing moves
            progress.start()

    timer = threading.Timer(_DELAY_SECONDS, draw)
    timer.daemon = True
    with suppress(RuntimeError):
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if timer.is_alive():
            timer.join()
        progress.stop()


class Bar:
    """What is done of a whole, seen while `visible`; with a ``unit`` such as videos/s the rate is shown too."""

    def __init__(self, title: str, total: float | None = None, hidden: bool = False, unit: str = ""):
        self._total, self._unit = total, unit
        note = "{task.fields[note]}[red]{task.fields[failures]}"
        columns = TextColumn(title), BarColumn(_BAR_WIDTH), TextColumn(note), TimeRemainingColumn()
        self._progress = None if hidden else _progress(*columns)
        if self._progress is not None:
            self._progress.add_task("", total=None, note="", failures="")

    def visible(self) -> AbstractContextManager:
        """Shows it while the body runs, from half a second on."""
        return nullcontext() if self._progress is None else _late(self._progress)

    def __call__(self, done: float, total: float | None = None, failed: int = 0) -> None:
        self._total = self._total if total is None else total
        speed = self._progress.tasks[0].speed if self._progress and self._unit else None
        rate = f" {speed:.1f} {self._unit}" if speed else ""
        self._show(
            done,
            self._total,
            f"{done:.0f}" if self._total is None else f"{int(done)} of {self._total:.0f}{rate}",
            failed,
        )

    def within(self, done: int, seconds: float, end: float, failed: int = 0) -> None:
        """Show how far the next video has come after ``done`` of them; of a single one, in seconds."""
        if self._total != 1:
            return self(done + min(seconds / end, 1.0) if end else done, failed=failed)
        self._show(seconds, end, f"{console.clock(seconds)} of {console.clock(end)}", failed)

    def _show(self, done: float, total: float | None, note: str, failed: int) -> None:
        if self._progress is not None:
            failures = f" {failed} failed" if failed else ""
            self._progress.update(self._progress.tasks[0].id, completed=done, total=total, note=note, failures=failures)
