"""Model files on this machine: finding, downloading and verifying them. No torch.

Only ``pull`` and the ``fetch`` functions use the network; the rest reads the package and Hugging Face's cache.
"""

import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from xclip_cli.checkpoint.registry import MODELS, ModelSpec
from xclip_cli.errors import ModelError
from xclip_cli.files import hash_file, weights_dir

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

_TRIES, _PAUSE_SECONDS = 5, 1.0
_SHOWN_BYTES = 10_000_000  # smaller downloads show no bar
_AGAIN = "then run the same command again: it goes on with what has arrived"


def user_path(name: str) -> Path:
    """Return a model's name as a path, ``~`` expanded; it need not exist.

    Raises ModelError for an impossible path, and for a pipe, a device or a socket.
    """
    path, shown = Path(os.path.expanduser(name)), repr(name) if len(name) < 200 else f"{name[:60]!r}..."
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return path
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelError(f"model {shown} cannot be opened: {reason}", "xclip models list shows the names") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ModelError(f"model {shown} is a pipe, a device or a socket", "give a file or a folder")
    return path


def local_file(spec: ModelSpec) -> Path | None:
    """Return the file with this model's weights; None if it is not on this machine."""
    kind, _, where = spec.source.partition(":")
    if kind == "bundled":
        path = weights_dir() / where
        return path if path.is_file() else None
    folder = snapshot(where)
    return first_in(folder, OPEN_CLIP_FILES if kind == "open_clip" else WEIGHT_FILES) if folder else None


def first_in(folder: Path, names: Iterable[str]) -> Path | None:
    """Return the first of these files that exists in the folder, or None."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def snapshot(repository: str) -> Path | None:
    """Return the folder of this repository's main revision in Hugging Face's cache, or None."""
    home = _home(repository)
    try:
        commit = (home / "refs" / "main").read_text().strip()
    except (OSError, ValueError):
        return None
    folder = home / "snapshots" / os.path.basename(commit)
    return folder if folder.is_dir() else None


def _home(repository: str) -> Path:
    return _hub_cache() / f"models--{repository.replace('/', '--')}"


def _hub_cache() -> Path:
    """Return huggingface_hub's cache folder without importing it."""
    get = os.environ.get
    home = get("HF_HOME", os.path.join(get("XDG_CACHE_HOME", os.path.join("~", ".cache")), "huggingface"))
    cache = get("HF_HUB_CACHE", get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub")))
    return Path(os.path.expandvars(os.path.expanduser(cache)))


def pull(repository: str) -> Path:
    """Download an X-CLIP of the hub except for intact files; return the file with its weights."""
    fetch(repository, ["config.json"])
    fetch_first(repository, ["preprocessor_config.json"])
    return fetch(repository, WEIGHT_FILES)


def fetch_first(repository: str, names: Iterable[str]) -> Path | None:
    """Download the first of these files that the repository has; None where it has none.

    Size and checksum are compared with those that the hub states. An unfinished download is continued, by this call
    after a lost connection and by the next one after a kill. Raises ModelError.
    """
    from huggingface_hub import errors

    for name in names:
        try:
            return _download(repository, name)
        except errors.RemoteEntryNotFoundError:
            continue
        except (errors.HTTPError, OSError, ValueError) as error:
            raise _explained(repository, name, error) from error
    return None


def fetch(repository: str, names: Iterable[str]) -> Path:
    """Download the first of these files (see `fetch_first`). Raises ModelError if there is none."""
    names = tuple(names)
    if path := fetch_first(repository, names):
        return path
    raise ModelError(f"{repository} on the Hugging Face Hub has no {' and no '.join(names)}")


def _download(repository: str, name: str) -> Path:
    import huggingface_hub as client
    from huggingface_hub import errors, utils

    utils.logging.set_verbosity_error()  # each of its retries would print two lines
    url, folder = client.hf_hub_url(repository, name), snapshot(repository)
    try:
        stated = client.get_hf_file_metadata(url)
    except errors.RemoteEntryNotFoundError:
        raise
    except (errors.HTTPError, OSError):
        if folder and (folder / name).is_file() and _verify_blob(folder / name) != "damaged":
            return folder / name
        raise
    if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", stated.etag or ""):
        raise ValueError("the server states no checksum; HF_ENDPOINT must be the hub or a mirror of it")
    blob = _home(repository) / "blobs" / stated.etag
    blob.parent.mkdir(parents=True, exist_ok=True)
    with utils.WeakFileLock(f"{blob}.lock"):
        if not blob.is_file() or _verify_blob(blob) == "damaged":
            part = blob.with_name(f"{blob.name}.incomplete")
            _receive(url, part, stated.size, name)
            if _verify_blob(part, stated.etag) == "damaged":
                part.unlink()
                raise OSError("what arrived does not have the checksum that the hub states; pull it again")
            part.replace(blob)
    return Path(client.hf_hub_download(repository, name, cache_dir=_hub_cache()))  # links the blob


def _receive(url: str, part: Path, size: int | None, name: str) -> None:
    """Append to ``part`` what it lacks of a file of ``size`` bytes; give up after _TRIES connections without a byte."""
    from huggingface_hub import constants, errors, get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    tries = _TRIES
    with part.open("ab") as file, _bar(name, file.tell(), size) as bar:
        while size is None or file.tell() < size:
            headers = build_hf_headers() | {"Accept-Encoding": "identity", "Range": f"bytes={file.tell()}-"}
            if size is None or not file.tell():
                del headers["Range"]
            try:
                with get_session().stream(
                    "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
                ) as response:
                    hf_raise_for_status(response)
                    if response.status_code != 206:
                        file.truncate(file.seek(0))  # the server sends the whole file
                        bar.n = 0
                    for piece in response.iter_bytes():
                        file.write(piece)
                        bar.update(len(piece))
                        tries = _TRIES
                        if size is not None and file.tell() > size:
                            return
                if size is None:
                    return
            except errors.HTTPError as error:
                status = getattr(getattr(error, "response", None), "status_code", None)
                if status is not None and status < 500 and status != 429:
                    raise
                if tries == 1:
                    raise
            tries -= 1
            if not tries:
                raise OSError(f"{file.tell()} of {size} bytes arrived")
            bar.set_postfix_str("connecting again")
            time.sleep(_PAUSE_SECONDS)


def _bar(name: str, start: int, size: int | None):
    from tqdm import tqdm

    hidden = True if size is not None and size < _SHOWN_BYTES else None  # None: where stderr is no terminal
    return tqdm(desc=name, initial=start, total=size, unit="B", unit_scale=True, disable=hidden)


def _explained(repository: str, name: str, error: Exception) -> ModelError:
    """Return the ModelError for an error of the hub's client."""
    from huggingface_hub import constants, errors

    hub = "the Hugging Face Hub" if constants.ENDPOINT == "https://huggingface.co" else constants.ENDPOINT
    where, status = f"{repository} on {hub}", getattr(getattr(error, "response", None), "status_code", None)
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    token = "set HF_TOKEN to a token of yours that may read it, from https://huggingface.co/settings/tokens"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return ModelError(f"{where} may not be asked: HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE and try again")
    if isinstance(error, errors.GatedRepoError):
        page = f"{constants.ENDPOINT}/{repository}"
        return ModelError(f"{where} is gated: its owners ask for an agreement first", f"agree at {page}, then {token}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelError(
            f"{where} does not exist, or is private", f"xclip models list shows the names; a private one: {token}"
        )
    if status in (401, 403):
        return ModelError(f"{where} refuses access (HTTP {status}): HF_TOKEN is wrong, or may not read it", token)
    if status is not None:
        return ModelError(f"{name} of {where} cannot be downloaded: HTTP {status}", _AGAIN)
    if isinstance(error, errors.HTTPError):
        return ModelError(f"{where} cannot be reached: {reason}", f"check the connection and the proxy, {_AGAIN}")
    return ModelError(f"{name} of {where} cannot be downloaded: {reason}", _AGAIN)


def repair(path: Path) -> str | None:
    """Return the hint that restores a bundled or downloaded file or folder; None for others."""
    if path.parent == weights_dir():
        return "get it anew: pip install --force-reinstall xclip-cli"
    with suppress(ValueError):
        home = path.absolute().relative_to(_hub_cache().absolute()).parts[0]
        repository = home.removeprefix("models--").replace("--", "/")
        named = (spec.name for spec in MODELS.values() if spec.source.endswith(f":{repository}"))
        other = "open_clip:ARCHITECTURE/TAG" if path.name in OPEN_CLIP_FILES else repository
        return f"pull it again: xclip models pull {next(named, other)}"
    return None


def verify(spec: ModelSpec) -> Iterator[tuple[Path, str]]:
    """Yield each file of a downloaded model with "ok", "damaged" or "no checksum"."""
    path = local_file(spec)
    if path is None:
        return
    if spec.source.startswith("bundled:"):
        yield path, _verdict(spec.sha256, hash_file(path) if spec.sha256 else None)
        return
    for file in sorted(path.parent.iterdir()):
        if not file.is_dir():
            yield file, _verify_blob(file)


def _verify_blob(file: Path, checksum: str | None = None) -> str:
    """Check a blob against its name in Hugging Face's cache: its SHA-256 or git's SHA-1 of it."""
    name = checksum or file.resolve().name
    if not file.is_file():  # a link to a blob that is not there
        return "damaged"
    if re.fullmatch("[0-9a-f]{64}", name):
        return _verdict(name, hash_file(file))
    if re.fullmatch("[0-9a-f]{40}", name):
        return _verdict(name, hash_file(file, "sha1", b"blob %d\0" % file.stat().st_size))
    return "no checksum"


def _verdict(expected: str | None, found: str | None) -> str:
    return "no checksum" if expected is None else "ok" if found == expected else "damaged"
