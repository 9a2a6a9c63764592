"""Label sets in files (YAML, text, CSV) and the built-in ones; errors name the line."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from xclip_cli.errors import LabelError, UsageError
from xclip_cli.files import labelsets_dir
from xclip_cli.labels.classlist import numbered_lines, read_class_list
from xclip_cli.labels.labelset import TEMPERATURES, Calibration, Label, LabelSet, check_template, plain_label, shortened
from xclip_cli.labels.tables import read_text

MAX_BYTES = 1_000_000
MAX_LABELS = 20_000
_SUFFIXES = ".yaml, .yml, .txt or .csv"
_TOP_KEYS = ("name", "template", "labels", "background", "calibration")
_LABEL_KEYS = ("name", "prompts", "parent", "threshold", "names")
_BACKGROUND_KEYS = ("name", "prompts")
_CALIBRATION_KEYS = ("model", "fingerprint", "temperature")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


def load(path: str | Path) -> LabelSet:
    """Return the label set of a label file; its name defaults to the file's. Raises LabelError."""
    path = Path(path)
    readers = {".yaml": _from_yaml, ".yml": _from_yaml, ".txt": _from_lines, ".csv": _from_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise LabelError(f"{path}: a label file must end in {_SUFFIXES}")
    _check_file(path)
    try:
        return reader(path)
    except UsageError as error:
        raise LabelError(error.message, error.hint) from None


def builtin_names() -> list[str]:
    """Return the names of the built-in label sets."""
    return sorted(file.stem for file in labelsets_dir().glob("*.yaml"))


def builtin(name: str) -> LabelSet:
    """Return the built-in label set called `name`. Raises LabelError."""
    if name not in (known := builtin_names()):
        hint = "A file is given by --labels-file." if Path(name).suffix else f"Built in: {', '.join(known)}"
        raise LabelError(f"no built-in label set is called {shortened(name)}", hint)
    return load(labelsets_dir() / f"{name}.yaml")


def builtin_outline(name: str) -> tuple[int, list[str], str]:
    """Return number of labels, languages and purpose of a built-in set, found without parsing the YAML."""
    text, _, _ = read_text(labelsets_dir() / f"{name}.yaml").partition("\nbackground:")
    count = len(re.findall(r"^  - ", text, re.MULTILINE))
    return count, sorted(set(re.findall(r"^    names: {(\w+):", text, re.MULTILINE))), _about(text)


def _check_file(path: Path) -> None:
    try:
        if path.exists() and not path.is_file():
            raise LabelError(f"{path}: a label file must be a regular file")
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LabelError(f"{path}: {reason} (a label file must end in {_SUFFIXES})") from None
    if size > MAX_BYTES:
        raise LabelError(f"{path}: the file is too large; at most {MAX_BYTES:,} bytes are read")


def _about(text: str) -> str:
    """Return the comment on the first line, which says what the file is for."""
    return text.split("\n", 1)[0].lstrip("# ") if text.startswith("#") else ""


def _from_lines(path: Path) -> LabelSet:
    text = read_text(path)
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    _check_count(len(lines), path)
    entries = numbered_lines(path, lines)
    notes = ()
    if entries:
        (_, first, name), (_, last, _) = entries[0], entries[-1]
        notes = (f"{path}: its lines count from {first} to {last}: the numbers are ids, the first label is {name!r}",)
        lines = [(number, name) for number, _, name in entries]
    labels = tuple(plain_label(line, ["{}"], f"{path}:{number}") for number, line in lines)
    return LabelSet(path.stem, labels, about=_about(text), notes=notes)


def _from_csv(path: Path) -> LabelSet:
    """Kinetics' and X-CLIP's `id,name`, or a column of names."""
    classes = read_class_list(path)
    _check_count(len(classes.names), path)
    sources = {number: f"{path}:{line}" for number, line in classes.lines.items()}
    labels = tuple(plain_label(classes.names[n], ["{}"], sources[n]) for n in sorted(classes.names))
    return LabelSet(path.stem, labels)


def _from_yaml(path: Path) -> LabelSet:
    from xclip_cli.labels import yamltree

    text = read_text(path)
    root = yamltree.parse(text, str(path))
    top = root.fields("label set", _TOP_KEYS) if root.kind == "map" else {"labels": root}
    templates = ("{}",)
    if "template" in top:
        templates = top["template"].texts("template")
        for template in templates:
            check_template(template, top["template"].source)
    labels, background = (
        tuple(_label(item, templates, keys) for item in (top[part].items(part) if part in top else ()))
        for part, keys in (("labels", _LABEL_KEYS), ("background", _BACKGROUND_KEYS))
    )
    _check_count(len(labels), path)
    name = top["name"].text("label set name") if "name" in top else path.stem
    calibration = _calibration(top["calibration"]) if "calibration" in top else None
    return LabelSet(name, labels, background, _about(text), calibration)


def _calibration(node) -> Calibration:
    given = node.fields("calibration", _CALIBRATION_KEYS)
    if missing := [key for key in _CALIBRATION_KEYS if key not in given]:
        raise node.error(f"calibration has no {missing[0]}", "xclip calibrate writes all three")
    temperature = given["temperature"].number("temperature", *TEMPERATURES)
    return Calibration(given["model"].text("model"), given["fingerprint"].text("fingerprint"), temperature)


def dump(label_set: LabelSet) -> str:
    """Return the text of a YAML file from which `load` reads an equal set."""
    import yaml

    top = {"name": label_set.name, "labels": [_entry(label) for label in label_set.labels]}
    if label_set.background:
        top["background"] = [_entry(label) for label in label_set.background]
    if label_set.calibration:
        top["calibration"] = asdict(label_set.calibration)
    about = f"# {label_set.about}\n" if label_set.about else ""
    return about + yaml.safe_dump(top, allow_unicode=True, sort_keys=False, width=120)


def _entry(label: Label) -> str | dict:
    if label.is_plain:
        return label.name
    values = {"name": label.name, "prompts": list(label.prompts), "parent": label.parent, "threshold": label.threshold}
    return {key: value for key, value in (*values.items(), ("names", dict(label.names))) if value not in (None, {})}


def _check_count(count: int, path: Path) -> None:
    if not 0 < count <= MAX_LABELS:
        raise LabelError(f"{path}: the file has {count:,} labels; it must have 1 to {MAX_LABELS:,}")


def _label(node, templates: Sequence[str], keys: Sequence[str]) -> Label:
    if node.kind != "map":
        return plain_label(node.text("label"), templates, node.source)
    given = node.fields("label" if keys is _LABEL_KEYS else "background entry", keys)
    if "name" not in given:
        raise node.error("label has no name", 'Write "- name: ..." and its other keys below.')
    plain = plain_label(given["name"].text("label name"), templates, node.source)
    names = given["names"].fields("names") if "names" in given else {}
    for code, value in names.items():
        if not _LANGUAGE.fullmatch(code):
            raise value.error(f"{code!r} is no language code; write one such as zh or pt-BR")
    return Label(
        plain.name,
        given["prompts"].texts("prompt") if "prompts" in given else plain.prompts,
        given["parent"].text("parent") if "parent" in given else None,
        given["threshold"].number("threshold", 0, 1) if "threshold" in given else None,
        {code: value.text("display name") for code, value in names.items()},
        node.source,
    )
