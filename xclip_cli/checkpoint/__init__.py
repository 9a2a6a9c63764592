"""Model files -> networks: any name or path that `open_checkpoint` knows, loaded strictly, nothing in it ever run."""

from .base import Checkpoint, TextEncoder
from .load import load_model, open_checkpoint
from .ours import save

__all__ = ["Checkpoint", "TextEncoder", "load_model", "open_checkpoint", "save"]
