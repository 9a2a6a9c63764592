"""What `xclip tag` writes beside rows: sidecars, the report, the annotated video."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from xclip_cli.cli import console, progress
from xclip_cli.errors import UsageError, XclipError
from xclip_cli.files import check_destination, identity
from xclip_cli.outputs import html, xmp
from xclip_cli.results import VideoResult
from xclip_cli.runs.batch import Batch
from xclip_cli.settings import TagSettings


@dataclass(frozen=True)
class ExtraOutputs:
    """What was asked for beside rows. ``check`` before anything is tagged, ``write`` when all is."""

    report: Path | None
    annotate: Path | None
    write_sidecars: bool
    remove_tags: bool
    dry_run: bool

    def check(self, written: Path | None, videos: Sequence[str], overwrite: bool) -> None:
        """Raises UsageError for what does not go together, and where a file would be lost.

        ``written`` is what else the run would write.
        """
        writes = written or self.report or self.annotate
        if self.dry_run and not (self.write_sidecars or self.remove_tags):
            hint = "add --write-sidecars or --remove-tags, or leave it out"
            raise UsageError("--dry-run shows what --write-sidecars or --remove-tags would do", hint)
        if self.dry_run and writes:
            raise UsageError("--dry-run writes nothing: no -o, --cut, --report or --annotate", "leave one of them out")
        if self.remove_tags and (writes or self.write_sidecars):
            hint = "leave out -o, --cut, --report, --annotate and --write-sidecars"
            raise UsageError("--remove-tags tags nothing: it takes out of sidecars what earlier runs added", hint)
        if self.annotate and len(videos) != 1:
            raise UsageError(f"--annotate takes one video, and {len(videos)} were given", "annotate them one by one")
        asked = ("--report", self.report, (".html", ".htm")), ("--annotate", self.annotate, (".mp4",))
        for option, path, suffixes in asked:
            if path is not None:
                check_file(option, path, suffixes, map(identity, videos), overwrite)

    def write(self, job: Batch, quiet: bool) -> int:
        """Writes all of it; gives how many files could not be written, each of which is named on stderr."""
        failed = self._sidecars(job, quiet) if self.write_sidecars else 0
        if self.report:
            write_report(self.report, list(job.results), job.settings, quiet)
        if self.annotate and not job.failed:
            _write_annotated(job, self.annotate, quiet)
        return failed

    def check_labels(self, chosen: bool) -> None:
        """Raise UsageError if tags would stay in sidecars that nobody chose."""
        if self.write_sidecars and not chosen:
            hint = 'add --labels "dunking,archery", --labels-file or --labelset, or a model fine-tuned on labels'
            raise UsageError("--write-sidecars writes tags that stay: it takes labels that you choose", hint)

    def remove(self, videos: Iterable[str], quiet: bool) -> int:
        """Take out of sidecars what earlier runs added; give how many files could not be written."""
        return self._update(((video, []) for video in videos), quiet)

    def _sidecars(self, job: Batch, quiet: bool) -> int:
        sure = _sure(job.label_set, job.settings)
        labels, lang = job.label_set, job.settings.lang
        lowest, left_out = xmp.floor(len(labels.labels) + len(labels.background)), 0

        def wanted() -> Iterator[tuple[str, list[xmp.Keyword]]]:
            nonlocal left_out
            for result in job.results:
                if result.error is None:
                    keywords = xmp.keywords(result, labels, lang, sure, lowest)
                    left_out += len(xmp.keywords(result, labels, lang, sure)) - len(keywords)
                    yield result.video, keywords

        failed = self._update(wanted(), quiet)
        if left_out and not quiet:
            console.print_line(f"{left_out} tags with a score below {lowest:.2f} left out: --threshold asks for others")
        return failed

    def _update(self, keywords: Iterable[tuple[str, list[xmp.Keyword]]], quiet: bool) -> int:
        """Write the sidecars of videos, or say what would be written; give how many cannot be."""
        written = same = failed = 0
        read_folder = cache(xmp.Folder.read)
        for video, tags in keywords:
            try:
                sidecar = xmp.sidecar(video, tags, read_folder)
                if not self.dry_run:
                    sidecar.write()
            except XclipError as error:
                console.print_error(error)
                failed += 1
                continue
            changes = [f"+ {tag}" for tag in sidecar.added] + [f"- {tag}" for tag in sidecar.removed]
            written, same = written + bool(changes), same + (not changes)
            if self.dry_run and changes:
                console.print_line(
                    f"would {'write' if sidecar.content else 'delete'} {sidecar.path}: {', '.join(changes)}"
                )
            if (changes or tags) and not quiet:
                _print_spellings(video, sidecar)
        if not quiet:
            verb = "would be written" if self.dry_run else "written"
            console.print_line(f"sidecars: {written} {verb}, {same} have nothing new, {failed} left as they are")
        return failed


def _print_spellings(video: str, sidecar: xmp.Sidecar) -> None:
    """Name sidecars that are not called as ours are."""
    for name in sidecar.others:
        taken = name == sidecar.path.name
        what = "is taken as its sidecar" if taken else f"may be its sidecar too; tags go to {sidecar.path.name}"
        console.print_warning(f"{video}: {name} {what}")


def _sure(label_set, settings: TagSettings) -> set[str]:
    """The names that are shown only above a threshold."""
    labels = (x for x in label_set.labels if settings.threshold is not None or x.threshold is not None)
    return {label_set.display(label, settings.lang) for label in labels}


def check_file(option: str, path: Path, suffixes: Sequence[str], inputs: Iterable, overwrite: bool) -> None:
    """Raises UsageError where a file cannot be written, or is one of the ``inputs`` (identities) or somebody's own."""
    check_destination(path, option)
    if path.suffix.lower() not in suffixes or path.is_dir():
        raise UsageError(f"{option} is {str(path)!r}: it must be a file *{suffixes[0]}", "rename it")
    if not path.parent.is_dir():
        raise UsageError(f"{option} is {str(path)!r}: its folder is not there", "make the folder first")
    if path.exists() and identity(path) in inputs:
        raise UsageError(f"{option} {str(path)!r} would replace the input", "choose another name")
    ours = option == "--report" and path.exists() and html.is_report(path)
    if path.exists() and not overwrite and not ours:
        raise UsageError(f"{option} {str(path)!r} exists", "add --overwrite to replace it")


def write_report(
    path: Path, results: Sequence[VideoResult], settings: TagSettings, quiet: bool, title: str = "Tagged videos"
) -> None:
    """Writes the page of these results, with pictures of the videos."""
    from xclip_cli.outputs.html.stills import strips

    tagged = [result.video for result in results if result.error is None]
    total = len(tagged) if len(tagged) > 1 else None  # of one video it only shows that something is done
    with progress.bar("pictures", total, quiet, "videos/s") as update:
        pictures = strips(tagged, settings, update)
    html.write(path, results, pictures, title)
    if not quiet:
        console.print_line(f"report -> {path}")


def _write_annotated(job: Batch, path: Path, quiet: bool) -> None:
    from xclip_cli.outputs.annotate import annotate

    with progress.bar("seconds annotated", hidden=quiet, unit="s/s") as update:
        annotate(next(job.results), path, job.settings, lambda seconds, total: update(round(seconds), round(total)))
    if not quiet:
        console.print_line(f"annotated -> {path}")
