"""Model files -> networks: any name or path that `open_checkpoint` knows, loaded strictly, nothing in it ever run."""

from .files import save
from .opening import Checkpoint, TextEncoder, load_model, open_checkpoint

__all__ = ["Checkpoint", "TextEncoder", "load_model", "open_checkpoint", "save"]
