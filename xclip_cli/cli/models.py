"""`xclip models`: which models there are, and which of them are on this machine."""

from typing import Annotated

import typer

from xclip_cli.checkpoint import hub
from xclip_cli.checkpoint.registry import MODELS, OPEN_CLIP_PREFIX, ModelSpec, Preprocessing, find
from xclip_cli.cli import completions, console
from xclip_cli.errors import ModelError
from xclip_cli.files import one_line

app = typer.Typer(help="List, show, download and verify models.", no_args_is_help=True)

_ANY = "A name that `xclip models list` shows, or what `xclip tag --model` takes."
AnyName = Annotated[str, typer.Argument(metavar="NAME", help=_ANY, autocompletion=completions.models)]
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A model's name, as `xclip models list` shows it.", autocompletion=completions.models
    ),
]


@app.command("list")
def list_models() -> None:
    """The models that have a name: size, frames, accuracy, licence, and whether they are on this machine."""
    heads = ("name", "on disk", "MB", "frames", "top-1 accuracy", "licence")
    console.print_rows(heads, [_row(spec) for spec in MODELS.values()])


@app.command()
def show(name: AnyName) -> None:
    """Everything that is known of one model, without loading it; of a file or folder, what it says itself."""
    registered = name.removeprefix("microsoft/") in MODELS
    opened = not registered and (":" in name or "/" in name or hub.user_path(name).exists())
    facts = _facts_of_file(name) if opened else _facts(find(name))
    console.print_rows(("fact", "value"), [(key, str(value)) for key, value in facts.items()])


def _facts(spec: ModelSpec) -> dict[str, object]:
    return {
        "name": spec.name,
        "about": spec.about,
        "file": hub.local_file(spec) or f"not on this machine; get it with: xclip models pull {spec.name}",
        "size": f"{_megabytes(spec)} MB",
        "frames": spec.num_frames,
        "preprocessing": _described(spec.preprocessing),
        "accuracy": spec.accuracy or "-",
        "licence": spec.licence,
        "source": spec.source,
        "sha256": spec.sha256 or "-",
        **{f"architecture.{key}": value for key, value in (spec.architecture or {}).items()},
    }


def _facts_of_file(name: str) -> dict[str, object]:
    """Of what has no entry in the registry; what may be wrong about it is a warning."""
    from xclip_cli.checkpoint.load import open_checkpoint  # here, since it takes torch

    checkpoint = open_checkpoint(name)
    for line in checkpoint.warnings:
        console.print_warning(line)
    return {
        "name": checkpoint.name,
        "file": checkpoint.path,
        "frames": checkpoint.num_frames,
        "preprocessing": _described(checkpoint.preprocessing),
        "labels": ", ".join(checkpoint.default_labels or ()) or "-",
        "fingerprint": checkpoint.fingerprint,
    }


def _described(pre: Preprocessing) -> str:
    resize = f"squashed to {pre.crop}" if pre.mode == "squash" else f"short side {pre.resize}, centre {pre.crop}"
    filtered = f"{pre.interpolation} {'with' if pre.antialias else 'without'} antialiasing"
    return f"{resize}, {filtered}, mean {pre.mean}, std {pre.std}"


@app.command()
def pull(name: Name) -> None:
    """Download a model into Hugging Face's cache (HF_HOME): a listed name, ORG/REPO, or open_clip:ARCHITECTURE/TAG."""
    if name.startswith(OPEN_CLIP_PREFIX):
        from xclip_cli.checkpoint.frozen import pull as pull_open_clip

        path = pull_open_clip(name)
    elif name in MODELS or "/" not in name:
        spec = find(name)
        kind, _, repository = spec.source.partition(":")
        path = hub.local_file(spec) if kind == "bundled" else hub.pull(repository)
    else:
        path = hub.pull(name)
    console.out().print(one_line(str(path)), markup=False)


@app.command()
def verify(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="All on disk if left out.", autocompletion=completions.models),
    ] = None,
) -> None:
    """Compute the checksums of downloaded and bundled model files again; exit code 1 if one is wrong."""
    specs = [find(name)] if name else list(MODELS.values())
    rows = [(spec.name, path.name, verdict) for spec in specs for path, verdict in hub.verify(spec)]
    if name and not rows:
        raise ModelError(f"model {name!r} is not on this machine", f"get it with: xclip models pull {name}")
    console.print_rows(("name", "file", "checksum"), rows)
    if damaged := [row for row in rows if row[2] == "damaged"]:
        model, file, _ = damaged[0]
        bundled = MODELS[model].source.startswith("bundled:")
        anew = "pip install --force-reinstall xclip-cli" if bundled else f"xclip models pull {model}"
        raise ModelError(
            f"{len(damaged)} damaged file(s), the first is {file} of {model}", f"pull the model again: {anew}"
        )


def _row(spec: ModelSpec) -> tuple[str, ...]:
    there = "yes" if hub.local_file(spec) else "no"
    return spec.name, there, _megabytes(spec), str(spec.num_frames), spec.accuracy or "-", spec.licence


def _megabytes(spec: ModelSpec) -> str:
    path = hub.local_file(spec)
    size = path.stat().st_size if path else spec.size_bytes
    return f"{size / 1e6:.0f}" if size else "?"
