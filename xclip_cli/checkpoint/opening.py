"""A model's name or path -> a Checkpoint, which loads what is asked of it, when it is asked."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from xclip_cli import hub
from xclip_cli.errors import ModelError
from xclip_cli.files import content_sha256
from xclip_cli.keymap import translate
from xclip_cli.labels import from_names
from xclip_cli.model.config import HEAD_WIDTH, TextConfig, VisionConfig, XclipConfig
from xclip_cli.model.text import TextTower, count_tokens, tokenize, trim
from xclip_cli.model.xclip import Xclip
from xclip_cli.registry import MODELS, ModelSpec, Preprocessing, as_published, find

from .files import LABEL_FEATURES, load_strictly, read_metadata, read_pickle, read_safetensors, tensors_in

OPEN_CLIP_PREFIX = "open_clip:"
_CHUNK = 64  # texts encoded at once: 400 labels x 16 templates in one batch would need 70 GB
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


@dataclass(frozen=True)
class TextEncoder:
    """A text tower with its tokenizer. Calling it with N texts gives float32 (N, E) on the CPU, not normalised.

    ``count_tokens(texts)`` says how many tokens each text needs, start and end included; a text of more than
    ``context_length`` is cut by the tokenizer. ``known`` texts have features (E,) of their own.
    """

    encode: Callable[[Tensor], Tensor]
    tokenize: Callable[[list[str]], Tensor]
    count_tokens: Callable[[list[str]], list[int]]
    context_length: int
    known: Mapping[str, Tensor] = field(default_factory=dict)

    def __call__(self, texts: list[str]) -> Tensor:
        with torch.inference_mode():
            chunks = [texts[i : i + _CHUNK] for i in range(0, len(texts), _CHUNK)]
            features = torch.cat([self.encode(self.tokenize(chunk)).float() for chunk in chunks])
        rows = zip(texts, features.clone(), strict=True)  # outside inference mode, so that training may use it
        return torch.stack([self.known.get(text, row) for text, row in rows])


@dataclass(frozen=True)
class Checkpoint:
    """A model that was found and checked but not loaded.

    ``num_frames`` is what to sample from a video; ``default_labels`` the names a fine-tuned model was tuned on, if any.
    ``identity`` says what, besides the bytes of ``path`` and the preprocessing, decides the model's answers.
    ``warnings``: what was guessed about the model and may be wrong, a line each.
    """

    name: str
    path: Path
    preprocessing: Preprocessing
    num_frames: int
    video_model: Callable[[], nn.Module]
    text_encoder: Callable[[], TextEncoder]
    full_model: Callable[[], Xclip]
    default_labels: list[str] | None = None
    identity: str = field(default="", repr=False)
    warnings: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the weights and everything else that decides what the model answers."""
        parts = content_sha256(self.path), self.identity, self.preprocessing
        return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()


def load_model(name_or_path: str) -> Xclip:
    """The whole network, both towers, float32 on the CPU, in eval mode.

    open_clip's native ViTs come as an Xclip with its three switches off. Raises ModelError as `open_checkpoint` does.
    """
    return open_checkpoint(name_or_path).full_model()


def open_checkpoint(name_or_path: str) -> Checkpoint:
    """Finds a model without loading it, and without the network: what is not on this machine is an error.

    Takes a registered name; ORG/REPO of the Hugging Face Hub; a folder in its layout; our .safetensors or a folder with
    one; Microsoft's .pth; ``open_clip:ARCHITECTURE[/TAG]`` or ``open_clip:ARCHITECTURE=FILE``.
    Raises ModelError for a model that is unknown, absent (naming the command that gets it), damaged or another network.
    """
    name = str(name_or_path)
    if name.startswith(OPEN_CLIP_PREFIX):
        from .frozen import open_frozen

        return open_frozen(name)
    if name in MODELS:
        return _open_registered(MODELS[name])
    path = Path(name).expanduser()
    if path.is_dir():
        return _open_folder(path)
    if path.exists():
        return _open_file(path)
    if path.suffix in _SUFFIXES:
        raise ModelError(f"there is no file {name!r}", "xclip models list shows the models that have a name")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("microsoft/"):
        return _open_registered(find(name))
    if folder := hub.snapshot(name):
        return _open_folder(folder, name)
    raise absent(name)


def absent(name: str) -> ModelError:
    return ModelError(f"model {name!r} is not on this machine", f"get it with: xclip models pull {name}")


def _open_registered(spec: ModelSpec) -> Checkpoint:
    path = hub.local_file(spec)
    if path is None and spec.source.startswith("bundled:"):
        raise ModelError(f"the bundled model {spec.name!r} is missing", "reinstall xclip-cli")
    if path is None:
        raise absent(spec.name)
    if spec.source.startswith("hf:"):
        return _open_folder(path.parent, spec.name, spec)
    return _open_file(path, spec.name)


def _open_file(path: Path, name: str | None = None) -> Checkpoint:
    if path.suffix == ".safetensors":
        about = read_metadata(path)
        if about is not None:
            return _open_ours(path, about, name)
    if (path.parent / "config.json").is_file() and path.name in hub.WEIGHT_FILES:
        return _open_folder(path.parent, name)
    if path.suffix == ".safetensors":
        raise ModelError(
            f"{path} does not say what network it is: xclip-cli did not write it, and no config.json is beside it",
            "for a model of open_clip: open_clip:ARCHITECTURE=FILE",
        )
    return _open_microsoft(path, name)


def _open_ours(path: Path, about: Mapping, name: str | None) -> Checkpoint:
    with _understanding(path):
        config = XclipConfig.from_dict(about["config"])
        preprocessing = Preprocessing(**about["preprocessing"])
        name, labels = name or str(about["name"]), about["labels"]
        own = labels and read_safetensors(path, lambda key: key == LABEL_FEATURES).get(LABEL_FEATURES)
        prompts = [label.prompts[0] for label in from_names(labels).labels] if own is not None and labels else []

    def read(wanted: Callable[[str], bool]) -> dict[str, Tensor]:
        return read_safetensors(path, lambda key: key != LABEL_FEATURES and wanted(key))

    known = dict(zip(prompts, own.float(), strict=True)) if prompts else {}
    return _checkpoint(name, path, config, preprocessing, read, known, default_labels=labels)


def _open_folder(folder: Path, name: str | None = None, spec: ModelSpec | None = None) -> Checkpoint:
    path = hub.first_in(folder, hub.WEIGHT_FILES)
    if path is None:
        raise ModelError(f"{folder} has no weights: none of {', '.join(hub.WEIGHT_FILES)} is in it")
    name = name or folder.resolve().name
    if path.suffix == ".safetensors" and (about := read_metadata(path)) is not None:
        return _open_ours(path, about, None)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json, which says what network its weights are")
    with _understanding(folder / "config.json") as settings_path:
        config = _config_from_hugging_face(json.loads(settings_path.read_text("utf-8")), settings_path)
    if spec:  # trained with heads of 64 everywhere, which the converted config.json need not say
        config, preprocessing = replace(config, mit_heads=None, prompt_heads=None), spec.preprocessing
    else:
        preprocessing = _preprocessing_of(folder, config.vision.image_size)

    def read(wanted: Callable[[str], bool]) -> dict[str, Tensor]:
        if path.suffix == ".safetensors":
            return translate(read_safetensors(path, wanted), "huggingface")
        return translate(tensors_in(read_pickle(path), path), "huggingface")

    identity = json.dumps(config.to_dict(), sort_keys=True)
    return _checkpoint(name, path, config, preprocessing, read, identity=identity, warnings=_doubts(name, config))


def _doubts(name: str, config: XclipConfig) -> tuple[str, ...]:
    """A line where the heads are not the authors', embed_dim / 64: transformers' conversion left L/14 with 8 for 12."""
    trained, found = config.embed_dim // HEAD_WIDTH, (config.mit_heads, config.prompt_heads)
    if config.embed_dim % HEAD_WIDTH or found == (trained, trained):
        return ()
    return (
        f"{name}: config.json gives the MIT {found[0]} and the prompts {found[1]} heads, and so it is run; X-CLIP's "
        f"authors trained {trained}, which answers otherwise. For {trained}, take the model by its registered name, or "
        "set vision_config.mit_num_attention_heads and prompt_num_attention_heads in config.json",
    )


def _open_microsoft(path: Path, name: str | None) -> Checkpoint:
    state = translate(tensors_in(read_pickle(path), path), "microsoft")
    config = XclipConfig.from_state(state)
    if not config.mit_layers and not config.prompt_layers:
        raise ModelError(
            f"{path} is a CLIP for images, not an X-CLIP", f"as it is: {OPEN_CLIP_PREFIX}ARCHITECTURE={path}"
        )
    return _checkpoint(name or path.stem, path, config, as_published(config.vision.image_size), lambda _: state)


def _checkpoint(
    name: str,
    path: Path,
    config: XclipConfig,
    preprocessing: Preprocessing,
    read: Callable[[Callable[[str], bool]], Mapping[str, Tensor]],
    known: Mapping[str, Tensor] | None = None,
    **more,
) -> Checkpoint:
    """``read(wanted)`` gives our names' tensors; of a file that can be read in part, those whose own key is wanted."""

    def load(build: Callable[[], nn.Module], part: Callable[[str], bool]) -> nn.Module:
        with torch.device("meta"):
            module = build()
        return load_strictly(module, {key: value for key, value in read(part).items() if part(key)}, path)

    def text_encoder() -> TextEncoder:
        tower = load(lambda: nn.ModuleDict({"text": _text_tower(config)}), _is_text)["text"]
        encode, length = lambda tokens: tower(trim(tokens)), config.text.context_length
        return TextEncoder(encode, tokenize, count_tokens, length, known or {})

    return Checkpoint(
        name,
        path,
        preprocessing,
        config.num_frames,
        video_model=lambda: load(lambda: Xclip(config, text=False), lambda key: not _is_text(key)),
        text_encoder=text_encoder,
        full_model=lambda: load(lambda: Xclip(config), lambda key: True),
        **more,
    )


def _is_text(key: str) -> bool:
    """Holds for our names and for Hugging Face's."""
    return key.startswith(("text.", "text_model.", "text_projection."))


def _text_tower(config: XclipConfig) -> TextTower:
    return TextTower(config.text, config.embed_dim, config.activation)


@contextmanager
def _understanding(path: Path) -> Iterator[Path]:
    """Settings that someone else wrote may hold anything: what the body trips over becomes a ModelError."""
    try:
        yield path
    except (OSError, LookupError, AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"{path} cannot be understood: {error!r}") from error


def _config_from_hugging_face(settings: Mapping, path: Path) -> XclipConfig:
    """transformers' XCLIPConfig; what a config.json leaves out has the value of X-CLIP B/32."""
    if settings.get("model_type") != "xclip":
        raise ModelError(f"{path} is of model type {settings.get('model_type')!r}; it must be 'xclip'")
    vision, text = settings.get("vision_config") or {}, settings.get("text_config") or {}
    activations = {
        vision.get("hidden_act", "quick_gelu"),
        text.get("hidden_act", "quick_gelu"),
        settings.get("prompt_hidden_act", "quick_gelu"),
    }
    epsilons = {vision.get("layer_norm_eps", 1e-5), text.get("layer_norm_eps", 1e-5)}
    if len(activations) > 1 or epsilons != {1e-5}:
        raise ModelError(
            f"{path}: activations {sorted(activations)} and layer_norm_eps {sorted(epsilons)}; "
            "one activation everywhere and 1e-05 are supported"
        )
    return XclipConfig(
        vision=VisionConfig(
            image_size=vision.get("image_size", 224),
            patch_size=vision.get("patch_size", 32),
            width=vision.get("hidden_size", 768),
            layers=vision.get("num_hidden_layers", 12),
            heads=vision.get("num_attention_heads", 12),
        ),
        text=TextConfig(
            context_length=text.get("max_position_embeddings", 77),
            vocab_size=text.get("vocab_size", 49408),
            width=text.get("hidden_size", 512),
            layers=text.get("num_hidden_layers", 12),
            heads=text.get("num_attention_heads", 8),
        ),
        embed_dim=settings.get("projection_dim", 512),
        num_frames=vision.get("num_frames", 8),
        mit_layers=vision.get("mit_num_hidden_layers", 1),
        mit_heads=vision.get("mit_num_attention_heads", 8),
        prompt_layers=settings.get("prompt_layers", 2),
        prompt_heads=settings.get("prompt_num_attention_heads", 8),
        prompt_alpha=settings.get("prompt_alpha", 0.1),
        activation=activations.pop(),
    )


def _preprocessing_of(folder: Path, image_size: int) -> Preprocessing:
    """The authors' pixels, in the sizes, means, deviations and filter that preprocessor_config.json asks for, if any.

    transformers, which writes that file, resizes with antialiasing; the weights never saw such pixels.
    """
    path, published = folder / "preprocessor_config.json", as_published(image_size)
    if not path.is_file():
        return published
    with _understanding(path):
        settings = json.loads(path.read_text("utf-8"))
        size, crop = settings.get("size", image_size), settings.get("crop_size", image_size)
        return replace(
            published,
            resize=size["shortest_edge"] if isinstance(size, Mapping) else size,
            crop=crop["height"] if isinstance(crop, Mapping) else crop,
            mean=settings.get("image_mean", Preprocessing.mean),
            std=settings.get("image_std", Preprocessing.std),
            interpolation="bicubic" if settings.get("resample") == 3 else "bilinear",
        )
