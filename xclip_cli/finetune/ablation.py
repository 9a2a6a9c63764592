"""What each part of the network is worth on one's own clips: the paper's table 7, by one command."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from xclip_cli.errors import OutputError
from xclip_cli.files import write_text
from xclip_cli.outputs.markdown import percent, table
from xclip_cli.settings import FinetuneSettings

from .loop import evaluate, train
from .run import Stopped, Told, accuracy, check_folder, make_folder, opened
from .state import State

HEADS = ("network", "before", "after, top-1 %")
_PLAIN = {"cross_frame": False, "mit_layers": 0, "prompt_layers": 0}
VARIANTS = {
    "frames averaged": (_PLAIN, "text"),
    "+ cross-frame messages": (_PLAIN | {"cross_frame": True}, "text"),
    "+ multi-frame integration": ({"prompt_layers": 0}, "text"),
    "+ video-specific prompts": ({}, "text"),
    "the same, a classifier instead of text": ({}, "classifier"),
}


def run(
    data: str, output: Path, settings: FinetuneSettings, told: Told, stopped: Stopped, command: str
) -> Iterator[tuple[str, str, str]]:
    """Trains each of VARIANTS alike, from the model's weights; a row of HEADS for each, and all in ``ablation.md``.

    Raises as a plain run does.
    """
    check_folder(output)
    with opened(data, settings, told) as job:
        make_folder(output)
        splits, rows = job.splits, []
        for name, (switches, head) in VARIANTS.items():
            model = copy.deepcopy(job.model).switched(**switches)
            before = accuracy(job.logits(model), splits.val, splits.names) if head == "text" else None
            task = job.task(job.learner(model, replace(job.regime, head=head)))
            state = State(output / "state.pt", job.purpose, job.ranks.count)
            for _ in train(task, state, stopped):
                pass
            state.path.unlink(missing_ok=True)
            after = accuracy(evaluate(task, splits.val), splits.val, splits.names)
            rows.append((name, percent(before), percent(after)))
            yield rows[-1]
    facts = f"`{command}`: {len(splits.train)} clips to learn from, {len(splits.val)} to validate, seed {settings.seed}"
    try:
        write_text(output / "ablation.md", f"# Ablation\n\n{facts}\n\n{table(HEADS, rows)}\n")
    except OSError as error:
        raise OutputError(f"cannot write the table in {str(output)!r}: {error.strerror}", "free space") from error
