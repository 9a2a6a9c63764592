"""The rows of an accuracy table: the model as it is, with parts of it off, and its backbone as CLIP made it."""

import copy
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from torch import nn

from xclip_cli import __version__
from xclip_cli.errors import ModelError, UsageError
from xclip_cli.labels import LabelSet
from xclip_cli.model.xclip import Xclip
from xclip_cli.settings import AccuracySettings
from xclip_cli.tagger import Tagger

TEMPLATE = "a video of {}."
# CLIP's ensemble for Kinetics (Radford et al., ICML 2021): every kind of picture with every way to do something.
_KINDS = ("photo", "video", "example", "demonstration")
_VERBS = ("", "using ", "doing ", "during ", "performing ", "practicing ")
_DOINGS = ("{}", *(f"a person {verb}{{}}" for verb in _VERBS))
ENSEMBLE = tuple(f"a {kind} of {doing}." for doing in _DOINGS for kind in _KINDS)
_TEMPLATES = {"none": ("{}",), "template": (TEMPLATE,), "ensemble": ENSEMBLE, "video": ("{}",)}
# Patch size, vision width and image side of an X-CLIP -> the CLIP that it was made from.
_ORIGINALS = {
    (32, 768, 224): "open_clip:ViT-B-32/openai",
    (16, 768, 224): "open_clip:ViT-B-16/openai",
    (14, 1024, 224): "open_clip:ViT-L-14/openai",
    (14, 1024, 336): "open_clip:ViT-L-14-336/openai",
}


@dataclass(frozen=True)
class Variant:
    """A way to tag, with its labels set; ``what`` says why the row is there.

    ``encoder``'s features of a video are what the tagger scores; variants of one temporal modelling share it.
    """

    model: str
    temporal: str
    prompting: str
    what: str
    tagger: Tagger
    encoder: Tagger

    @property
    def name(self) -> str:
        return f"{self.model} {self.temporal} {self.prompting}"

    @property
    def configuration(self) -> str:
        """The same for two variants that answer alike."""
        checkpoint, settings = self.tagger.checkpoint, self.tagger.settings
        labels = self.tagger.label_set.fingerprint
        parts = [__version__, checkpoint.fingerprint, checkpoint.num_frames, labels, settings.fingerprint]
        return hashlib.sha256(json.dumps([*parts, self.temporal, self.prompting]).encode()).hexdigest()


def variants(label_set: LabelSet, settings: AccuracySettings) -> tuple[list[Variant], list[str]]:
    """The rows, the model's own first, and a line for each row that should be there and cannot.

    Raises UsageError for a part that the model does not have, ModelError where it cannot be opened.
    """
    base, rows = Tagger(**vars(settings.tag)), []
    if not isinstance(base.model, Xclip):
        if "video" in settings.prompting or set(settings.temporal) - {"mean"}:
            raise UsageError(f"{settings.tag.model} knows no time and has no prompts", "leave those rows out")
        ways = dict.fromkeys(settings.prompting or ("none",))
        return [_row(base, base.model, "mean", way, label_set, "as it is") for way in ways], []
    config = base.model.config
    own = "+".join(["cct"] * config.cross_frame + ["mit"] * bool(config.mit_layers)) or "mean"
    prompting = "video" if config.prompt_layers else "none"
    asked = product(settings.temporal or (own,), settings.prompting or (prompting,))
    what = {("mean", "none"): "the same backbone, frames averaged", (own, prompting): "as it is"}
    encoders: dict[str, Tagger] = {}
    for temporal, way in dict.fromkeys([(own, prompting), *asked, ("mean", "none")]):
        if temporal not in encoders:
            encoders[temporal] = _with_model(base, _temporal(base.model, temporal))
        encoder = encoders[temporal]
        model = encoder.model if way == "video" else encoder.model.switched(prompt_layers=0)
        if way == "video" and not config.prompt_layers:
            raise UsageError("--prompting video is asked for, and the model has no such part", "leave it out")
        rows.append(_row(encoder, model, temporal, way, label_set, what.get((temporal, way), "")))
    return _with_original(rows, label_set)


def _row(encoder: Tagger, model: nn.Module, temporal: str, prompting: str, label_set: LabelSet, what: str) -> Variant:
    tagger = _with_model(encoder, model).set_labels(prompted(label_set, prompting))
    return Variant(encoder.checkpoint.name, temporal, prompting, what, tagger, encoder)


def _with_model(tagger: Tagger, model: nn.Module) -> Tagger:
    other = copy.copy(tagger)
    other.model = model
    return other


def _temporal(model: Xclip, temporal: str) -> Xclip:
    """The model with its messages and its integration on or off. Raises UsageError for a part that it does not have."""
    parts = temporal.split("+")
    has = {"cct": model.config.cross_frame, "mit": model.config.mit_layers}
    if absent := [part for part in parts if part in has and not has[part]]:
        raise UsageError(f"--temporal {absent[0]} is asked for, and the model has no such part", "leave it out")
    on = {part: value if part in parts else type(value)(0) for part, value in has.items()}
    return model.switched(cross_frame=on["cct"], mit_layers=on["mit"])


def _with_original(rows: list[Variant], label_set: LabelSet) -> tuple[list[Variant], list[str]]:
    """Adds the CLIP that the backbone was, where it is on this machine."""
    base, vision = rows[0].tagger, rows[0].tagger.model.config.vision
    name = _ORIGINALS.get((vision.patch_size, vision.width, vision.image_size)) if vision.stem == "patch" else None
    if name is None:
        return rows, []
    try:
        original = Tagger(**(vars(base.settings) | {"model": name}))
    except ModelError as error:
        return rows, [f"{name}, the backbone before it was tuned, is not measured: {error.message}; {error.hint}"]
    original.checkpoint = replace(original.checkpoint, num_frames=base.checkpoint.num_frames)
    what = "the backbone before it was tuned"
    return [*rows, _row(original, original.model, "mean", "none", label_set, what)], []


def prompted(label_set: LabelSet, prompting: str) -> LabelSet:
    """The set with every prompt put into every template of a way of prompting."""
    templates = _TEMPLATES[prompting]

    def prompts(texts: tuple[str, ...]) -> Iterator[str]:
        return dict.fromkeys(template.replace("{}", text) for text in texts for template in templates)

    labels = tuple(replace(label, prompts=tuple(prompts(label.prompts))) for label in label_set.labels)
    return LabelSet(label_set.name, labels)
