"""Where model files are on this machine, how they get here and whether they are whole. No torch.

Only ``pull`` and the ``fetch`` functions use the network; the rest looks into the package and Hugging Face's cache.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from xclip_cli.errors import ModelError
from xclip_cli.files import hash_file, weights_dir
from xclip_cli.registry import ModelSpec

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def local_file(spec: ModelSpec) -> Path | None:
    """The file with this model's weights, if it is on this machine."""
    kind, _, where = spec.source.partition(":")
    if kind == "bundled":
        path = weights_dir() / where
        return path if path.is_file() else None
    folder = snapshot(where)
    return first_in(folder, OPEN_CLIP_FILES if kind == "open_clip" else WEIGHT_FILES) if folder else None


def first_in(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of these files that the folder has."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def snapshot(repository: str) -> Path | None:
    """The folder of Hugging Face's cache with this repository's main revision, if it was ever downloaded."""
    home = _hub_cache() / f"models--{repository.replace('/', '--')}"
    try:
        commit = (home / "refs" / "main").read_text().strip()
    except OSError:
        return None
    folder = home / "snapshots" / os.path.basename(commit)
    return folder if folder.is_dir() else None


def _hub_cache() -> Path:
    """Where huggingface_hub keeps its files, found without importing it."""
    get = os.environ.get
    home = get("HF_HOME", os.path.join(get("XDG_CACHE_HOME", os.path.join("~", ".cache")), "huggingface"))
    cache = get("HF_HUB_CACHE", get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub")))
    return Path(os.path.expandvars(os.path.expanduser(cache)))


def pull(repository: str) -> Path:
    """Downloads an X-CLIP of the hub, what is here already excepted; gives the file with its weights."""
    fetch(repository, ["config.json"])
    fetch_first(repository, ["preprocessor_config.json"])
    return fetch(repository, WEIGHT_FILES)


def fetch_first(repository: str, names: Iterable[str]) -> Path | None:
    """Downloads the first of these files that the repository has; None where it has none. Resumes, shows progress.

    Raises ModelError without a connection, with HF_HUB_OFFLINE set, for an unknown repository, or a full disk.
    """
    import huggingface_hub
    from huggingface_hub import errors

    where = f"{repository} on the Hugging Face Hub"
    for name in names:
        try:
            return Path(huggingface_hub.hf_hub_download(repository, name))
        except errors.LocalEntryNotFoundError as error:
            raise _unreachable(where, error) from error
        except errors.EntryNotFoundError:
            continue
        except errors.OfflineModeIsEnabled as error:
            raise _unreachable(where, error) from error
        except errors.RepositoryNotFoundError as error:
            raise ModelError(
                f"{where} does not exist, or is not public", "xclip models list shows the names"
            ) from error
        except (OSError, ValueError) as error:
            raise ModelError(f"{name} of {where} cannot be downloaded: {str(error).splitlines()[0]}") from error
    return None


def fetch(repository: str, names: Iterable[str]) -> Path:
    """As ``fetch_first``, but a repository with none of the files is a ModelError too."""
    names = tuple(names)
    if path := fetch_first(repository, names):
        return path
    raise ModelError(f"{repository} on the Hugging Face Hub has no {' and no '.join(names)}")


def _unreachable(where: str, error: Exception) -> ModelError:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled) or isinstance(error.__cause__, OfflineModeIsEnabled):
        return ModelError(f"{where} may not be asked: HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE and try again")
    return ModelError(f"{where} cannot be reached", "check the connection and try again; what has arrived is kept")


def verify(spec: ModelSpec) -> Iterator[tuple[Path, str]]:
    """Reads every file of a model again and gives (file, "ok" | "damaged" | "no checksum"); nothing if it is absent."""
    path = local_file(spec)
    if path is None:
        return
    if spec.source.startswith("bundled:"):
        yield path, _verdict(spec.sha256, hash_file(path) if spec.sha256 else None)
        return
    for file in sorted(path.parent.iterdir()):
        yield file, _verify_blob(file)


def _verify_blob(file: Path) -> str:
    """Hugging Face's cache names a blob by its SHA-256 or, where it is small, by git's SHA-1 of it."""
    name = file.resolve().name
    if re.fullmatch("[0-9a-f]{64}", name):
        return _verdict(name, hash_file(file))
    if re.fullmatch("[0-9a-f]{40}", name):
        return _verdict(name, hash_file(file, "sha1", b"blob %d\0" % file.stat().st_size))
    return "no checksum"


def _verdict(expected: str | None, found: str | None) -> str:
    return "no checksum" if expected is None else "ok" if found == expected else "damaged"
