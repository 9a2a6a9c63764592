"""`xclip index`: videos in, so that they can be searched, and tagged again without being read again."""

import os
import sys
import time
from functools import partial
from pathlib import Path

import typer

from xclip_cli.cli import console, options
from xclip_cli.errors import Interrupted, UsageError
from xclip_cli.files import index_dir, one_line
from xclip_cli.settings import TagSettings


def index(
    paths: options.IndexPaths = None,
    recursive: options.Recursive = False,
    index: options.IndexFolder = None,
    status: options.Status = False,
    prune: options.Prune = False,
    yes: options.Yes = False,
    model: options.Model = TagSettings.model,
    device: options.Device = TagSettings.device,
    dtype: options.Dtype = TagSettings.dtype,
    window: options.IndexWindow = "auto",
    stride: options.Stride = None,
    scenes: options.Scenes = False,
    engine: options.Engine = options.EngineName.local,
    address: options.Address = None,
    batch_size: options.BatchSize = TagSettings.batch_size,
    workers: options.Workers = TagSettings.workers,
    reader: options.Reader = TagSettings.reader,
    decode_timeout: options.DecodeTimeout = TagSettings.decode_timeout_seconds,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Keep what a model knows of videos, for `xclip search` and `xclip tag --from-index`.

    Run it again to add what is new or changed; what was moved or renamed is known again. Stopped or killed, it goes on.
    """
    from xclip_cli.index.index import Index
    from xclip_cli.index.store import Store

    cluster = options.cluster_address(engine, address)
    if not (paths or status or prune):
        raise UsageError("nothing to index: no videos are named", "name videos or folders; --status says what is there")
    opened = Index(
        index or index_dir(), model, window_seconds=options.seconds(window), stride_seconds=stride, scenes=scenes,
        device=device, dtype=dtype, batch_size=batch_size, workers=workers, reader=reader,
        decode_timeout_seconds=decode_timeout,
    )  # fmt: skip
    with opened, Store(opened.folder, create=bool(paths)) as store:
        failed = _build(opened, store, paths, recursive, cluster, quiet, verbose) if paths else 0
        if prune:
            _prune(store, yes)
        if status:
            _show(store)
    raise typer.Exit(1 if failed else 0)


def _build(opened, store, paths: list[str], recursive: bool, cluster: str | None, quiet: bool, verbose: bool) -> int:
    """Add videos to the index and return how many failed."""
    from xclip_cli.cli import progress

    with progress.spinner("starting", quiet):
        from xclip_cli.cli import tag_view as view
        from xclip_cli.runs import ray
        from xclip_cli.runs.batch import find_videos

    started = time.perf_counter()
    named, listed = options.read_paths(paths)
    found = find_videos(named, recursive, listed, on_skip=view.print_skipped if verbose and not quiet else None)
    view.print_skip_counts(found, quiet)
    update = progress.Bar("indexing", len(found.videos), quiet, "videos/s")
    with progress.spinner("loading the model", quiet):
        embed = None
        if cluster:
            embed = partial(ray.embed, settings=opened.settings, checkpoint=opened.checkpoint, address=cluster)

        def within(seconds: float, end: float) -> None:
            update.within(build.finished, seconds, end, build.failed)

        build = opened.build(store, found.videos, found.unreadable, embed, within)
    with update.visible():
        try:
            for result in build.run():
                view.tell(result, quiet, verbose)
                update(build.finished, failed=build.failed)
        except KeyboardInterrupt:
            told = f"stopped after {build.finished} of {len(found.videos)} videos"
            raise Interrupted(told, "nothing finished is lost: run the same command again to go on") from None
    if not quiet:
        seconds = time.perf_counter() - started
        new = build.finished - build.before - build.failed
        counts = f"{new} videos indexed ({build.before} before), {build.failed} failed, {build.windows} windows"
        rate = f"{seconds:.1f} s, {build.windows / seconds:.1f} windows/s"
        console.print_line(f"{counts}, {rate} -> {store.folder}, {store.num_bytes() / 1e6:.1f} MB")
    return build.failed


def _prune(store, yes: bool) -> None:
    """Takes out the videos whose files are gone. Raises UsageError where nobody can be asked and ``yes`` is not set."""
    videos = store.videos()
    gone = [video.path for video in videos if video.is_missing]
    if gone and not yes:
        said = f"the files of {len(gone)} of {len(videos)} indexed videos are gone{_missing_folder(gone)}"
        if not sys.stdin.isatty():
            raise UsageError(f"{said}: nothing was taken out", "add --yes to take them out of the index")
        sys.stderr.write(f"{one_line(said)}. Take them out of the index? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().casefold() not in ("y", "yes"):
            console.print_line("nothing was taken out")
            return
    console.print_line(f"taken out: {store.prune(gone)} whose files are gone")


def _missing_folder(paths: list[str]) -> str:
    """What to say where the folder that all of these are in is not there, or is empty: a drive may be missing."""
    try:
        folder = Path(os.path.commonpath([os.path.dirname(path) for path in paths]))
    except ValueError:  # several drives of Windows
        return ""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    if not missing and any(folder.iterdir()):
        return ""
    found = f"{str(missing[-1])!r} is not there" if missing else f"{str(folder)!r} is empty"
    return f" ({found}: is a drive not mounted?)"


def _show(store) -> None:
    """A row per model on stdout."""
    columns = (
        ("model", "model", None),
        ("videos", "videos", 0),
        ("missing", "gone", 0),
        ("windows", "windows", 0),
        ("hours", "hours", 2),
        ("megabytes", "MB of windows", 1),
        ("recipe", "made with", None),
    )
    rows = []
    for known in store.collections():
        status = store.status(known)
        size = {"hours": status.seconds / 3600, "megabytes": status.num_bytes / 1e6}
        rows.append(status._asdict() | size | {"model": known.model, "recipe": known.recipe})
    console.print_table(columns, rows)
    console.print_line(f"{store.folder}: {store.num_bytes() / 1e6:.1f} MB")
