"""`xclip labels`: look at the built-in label sets and check your own label file."""

from pathlib import Path
from typing import Annotated

import typer

from xclip_cli.cli import completions, console, options
from xclip_cli.settings import TagSettings

_FITS = 75  # letters of a prompt; its start and its end are tokens too

app = typer.Typer(help="Look at the built-in label sets; check your own label file.", no_args_is_help=True)


@app.command("list")
def list_sets() -> None:
    """The built-in label sets: how many labels, in which languages, and what for."""
    from xclip_cli import labels  # here, so that every other command starts without it

    outlines = {name: labels.builtin_outline(name) for name in labels.builtin_names()}
    rows = [(name, str(count), ",".join(["en", *codes]), about) for name, (count, codes, about) in outlines.items()]
    console.print_rows(("name", "labels", "languages", "about"), rows)


@app.command()
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A set of `xclip labels list`, or a label file.",
            autocompletion=completions.labelsets,
        ),
    ],
    lang: Annotated[str | None, typer.Option(help="Show labels in this language, e.g. zh.")] = None,
) -> None:
    """The labels of a set with the prompts that are encoded for them."""
    from xclip_cli import labels

    label_set = labels.load(name) if Path(name).suffix else labels.builtin(name)
    if lang and not any(label_set.display(label, lang) != label.name for label in label_set.labels):
        console.print_warning(f"label set {label_set.name!r} has no display names in {lang!r}")
    rows = [
        (kind, label_set.display(label, lang), label.parent and label_set.display(label.parent, lang), label.prompts)
        for kind, part in (("label", label_set.labels), ("background", label_set.background))
        for label in part
    ]
    cells = [(kind, shown, parent or "-", " | ".join(prompts)) for kind, shown, parent, prompts in rows]
    console.print_rows(("kind", "label", "parent", "prompts"), cells)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A label file: .yaml, .yml, .txt or .csv.")],
    model: options.Model = TagSettings.model,
) -> None:
    """Read a label file as `xclip tag` would; exit code 2 and one line with the place if it breaks a rule."""
    from xclip_cli import labels

    label_set = labels.load(file)
    _check_lengths(label_set, model)
    for note in label_set.notes:
        console.print_line(note)
    for warning in label_set.warnings():
        console.print_warning(warning)
    heads = ("name", "labels", "background", "prompts", "languages")
    counts = len(label_set.labels), len(label_set.background), sum(len(x.prompts) for x in label_set.labels)
    console.print_rows(heads, [(label_set.name, *map(str, counts), ",".join(label_set.languages) or "-")])


def _check_lengths(label_set, model: str) -> None:
    """As the model counts. Short plain text fits into `mini`, whose tokens have a letter or more."""
    entries = (*label_set.labels, *label_set.background)
    prompts = {prompt for entry in entries for prompt in entry.prompts}
    if model == TagSettings.model and all(prompt.isascii() and len(prompt) <= _FITS for prompt in prompts):
        return
    from xclip_cli.checkpoint.load import open_checkpoint  # here, since it takes torch
    from xclip_cli.tagger.textcache import check_lengths

    check_lengths(entries, prompts, open_checkpoint(model).text_encoder())
