"""Lines of the program broken one at a time: a test must notice each. Run by hand.

    python tests/mutations.py [WORD ...]

Every mutant is made in a copy of the checkout, and its tests run there until the first that fails. Words choose
mutants by name.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
_LINKED = ("labelsets", "weights", "docs", "README.md", "README.zh.md", "CHANGELOG.md", "LICENSE")
_SECONDS = 300


class Mutant(NamedTuple):
    """``old`` stands once in ``file`` and becomes ``new``; ``tests`` are the files that should notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    # The core
    Mutant("softmax over the videos", "tagger/tagger.py", ".softmax(dim=-1)\n        scores, similarity",
           ".softmax(dim=0)\n        scores, similarity", "tagger/test_tagger.py"),
    Mutant("colours of OpenCV's video", "video/opencv.py", "cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 "
           "else cv2.COLOR_BGR2RGB)", "cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image",
           "video/test_readers.py video/test_kinds.py"),
    Mutant("colours of PyAV's video", "video/pyav.py", 'format="rgb24"', 'format="bgr24"',
           "video/test_readers.py video/test_kinds.py"),
    Mutant("colours of pictures", "video/pictures.py", "else cv2.COLOR_BGR2RGB", "else cv2.COLOR_BGR2HSV",
           "video/test_odd_files.py video/test_kinds.py"),
    Mutant("sampling at the start of each part", "video/sampling.py", "[:, None] + 0.5)", "[:, None] + 0.0)",
           "video/test_sampling.py"),
    Mutant("crop at the corner", "tagger/preprocess.py", "else m // 2 for m in margins", "else 0 for m in margins",
           "tagger/test_preprocess.py"),
    Mutant("deviation before the mean", "tagger/preprocess.py", ".sub_(mean).div_(std)", ".div_(std).sub_(mean)",
           "tagger/test_preprocess.py"),
    Mutant("mean of one channel for all", "tagger/preprocess.py", ".mul(255).view(3, 1, 1)",
           ".mul(255)[:1].view(1, 1, 1)",
           "tagger/test_preprocess.py"),
    Mutant("message before the frame", "model/cct.py", "[x, message.unsqueeze(1)]", "[message.unsqueeze(1), x]",
           "model/test_parity.py"),
    Mutant("text cache of all models", "tagger/textcache.py", "_memory.setdefault(checkpoint.fingerprint, {})",
           '_memory.setdefault("", {})', "tagger/test_textcache.py"),
    Mutant("text file of all models", "tagger/textcache.py", 'f"{checkpoint.fingerprint}.safetensors"',
           '"all.safetensors"',
           "tagger/test_textcache.py"),
    Mutant("journal skips failed videos", "outputs/journal.py", "if result.error is None}", "}",
           "outputs/test_journal.py"),
    Mutant("journal forgets when a video changed", "journal.py", "[stat.st_size, stat.st_mtime_ns]", "[stat.st_size]",
           "outputs/test_journal.py"),
    Mutant("a quarter turn the other way", "video/display.py", "return cls(True, c < 0, b < 0)",
           "return cls(True, c > 0, b > 0)", "video/test_readers.py"),
    Mutant("worst label first", "tagger/tagger.py", "key=lambda i: (-scores[i], i)", "key=lambda i: (scores[i], i)",
           "tagger/test_tagger.py"),
    Mutant("one label too many", "tagger/tagger.py", "tags[: settings.top_k]", "tags[: settings.top_k + 1]",
           "tagger/test_tagger.py"),
    # The network
    Mutant("no message where there is one frame", "model/cct.py", "return message + self.attn(self.ln(message))",
           "return message if message.shape[1] == 1 else message + self.attn(self.ln(message))",
           "model/test_parity.py model/test_xclip.py"),
    Mutant("frames do not hear each other", "model/cct.py", ".unflatten(0, (-1, num_frames))).flatten(0, 1)",
           ".unsqueeze(1)).flatten(0, 1)", "model/test_parity.py"),
    Mutant("first frame for the mean", "model/mit.py", "(frame_features + x).mean(dim=1)",
           "(frame_features + x)[:, 0]", "model/test_parity.py"),
    Mutant("no residual around MIT", "model/mit.py", "(frame_features + x)", "x", "model/test_parity.py"),
    Mutant("prompts at full strength", "model/prompt.py", "text + self.alpha * prompted", "text + prompted",
           "model/test_parity.py"),
    Mutant("temperature is no exponential", "model/xclip.py", "logit_scale.float().exp()", "logit_scale.float()",
           "model/test_parity.py"),
    Mutant("long frames weigh more", "model/xclip.py", "F.normalize(features.float(), dim=-1).mean(dim=1)",
           "features.float().mean(dim=1)", "model/test_openclip.py model/test_xclip.py"),
    Mutant("text not causal", "model/text.py", "causal=True", "causal=False", "model/test_parity.py"),
    # Tagging
    Mutant("first view for all", "tagger/tagger.py", "x.unflatten(0, (count, -1)).mean(dim=1) for",
           "x.unflatten(0, (count, -1))[:, 0] for", "tagger/test_tagger.py"),
    Mutant("calibrated the wrong way", "tagger/tagger.py", "(scores.log() / labels.temperature)",
           "(scores.log() * labels.temperature)", "benchmark/test_calibrate.py"),
    Mutant("calibrated for any model", "labels/labelset.py", "return self.calibration.temperature if fits else 1.0",
           "return self.calibration.temperature if self.calibration else 1.0", "benchmark/test_calibrate.py"),
    Mutant("background is printed", "tagger/tagger.py", "if best >= len(labels):", "if best > len(labels):",
           "tagger/test_tagger.py"),
    Mutant("margin never asked", "tagger/tagger.py", "< settings.min_margin", "< 0", "tagger/test_tagger.py"),
    Mutant("labels' own thresholds not heard", "tagger/tagger.py",
           "return of_label if of_label is not None else of_all",
           "return of_all if of_all is not None else of_label", "tagger/test_tagger.py"),
    Mutant("half of a text's prompts", "tagger/textcache.py", "(rows / lengths).mean(dim=0)", "(rows / lengths)[0]",
           "tagger/test_textcache.py"),
    # Timelines
    Mutant("no hysteresis", "tagger/timeline.py", "np.where(holds, least, begin)", "begin", "tagger/test_timeline.py"),
    Mutant("a score on the threshold is below", "tagger/timeline.py", "now >= np.where", "now > np.where",
           "tagger/test_timeline.py"),
    Mutant("stride is the window", "video/sampling.py", "+ 1) * stride", "+ 1) * window", "video/test_windows.py"),
    Mutant("the last window ends before the video", "video/sampling.py", "starts = np.append(starts, stop - window)",
           "pass", "video/test_windows.py"),
    Mutant("a resumed timeline begins anew", "tagger/tagger.py", "encoder.resize, len(known.spans))",
           "encoder.resize, 0)",
           "tagger/test_timelines.py::test_a_run_goes_on_behind_the_windows_that_are_known"),
    Mutant("windows of another video", "runs/batch.py", "self._journal.windows(self._keys[path])",
           "self._journal.windows(next(iter(self._keys.values())))",
           "tagger/test_timelines.py::test_windows_that_are_no_numbers_are_not_believed"),
    Mutant("only shorter pauses are filled", "tagger/timeline.py", "<= rules.max_gap_seconds",
           "< -1 + rules.max_gap_seconds",
           "tagger/test_timeline.py"),
    Mutant("scenes smoothed over", "tagger/timeline.py", " & (scenes[source] == scenes)", "",
           "tagger/test_timeline.py"),
    # Videos
    Mutant("turned as coded", "video/probe.py", "return UPRIGHT if data is None else", "return UPRIGHT if True else",
           "video/test_readers.py::test_rotation_is_honoured"),
    Mutant("any stream", "video/container.py", "frames != 1, marked, context.width", "frames != 1, context.width",
           "video/test_kinds.py::test_the_stream"),
    Mutant("a clock of the pictures alone", "video/probe.py", "TOLERANCE_SECONDS else start - origin",
           "TOLERANCE_SECONDS else 0.0", "video/test_clock.py"),
    Mutant("holes closed in every container", "video/container.py", "& _TS_DISCONT else math.inf",
           "& _TS_DISCONT else _JUMP_AHEAD_SECONDS", "video/test_clock.py"),
    Mutant("the last picture inherits the gap", "video/probe.py", ".min(initial=1 / _USUAL_FPS)", ".min()",
           "video/test_clock.py"),
    Mutant("jumps are sampled", "video/probe.py", "np.flatnonzero(steps > JUMP_SECONDS)", "np.flatnonzero(steps < 0)",
           "video/test_clock.py"),
    Mutant("pixels square", "video/probe.py", "return stream.sample_aspect_ratio or Fraction(1)", "return Fraction(1)",
           "video/test_kinds.py::test_orientation_and_pixel_shape"),
    Mutant("the next frame", "video/pyav.py", "while self._next_time <= time or",
           "while self._next_time <= time + 0.04 or", "video/test_readers.py::test_the_frame_on_display_is_read"),
    Mutant("a video may take any memory", "video/worker.py", "    limit_memory()\n", "",
           "video/test_worker.py::test_a_bad_video_costs_itself_alone"),
    Mutant("a playlist is opened", "video/source.py", "if _PLAYLIST.search(head):", "if False:",
           "video/test_odd_files.py::test_what_is_no_video"),
    # Files
    Mutant("formulas run", "outputs/csv.py", 'if text.startswith(_FORMULA_STARTS) and text != "-" else text',
           "if False else text", "outputs/test_outputs.py"),
    Mutant("control characters in Markdown", "outputs/markdown.py", "one_line(str(cell))", "str(cell)",
           "outputs/test_outputs.py"),
    Mutant("markup in VTT", "outputs/subtitles.py", '.replace("<", "&lt;")', "", "outputs/test_subtitles.py"),
    Mutant("a name commands the terminal", "cli/console.py", "return escape(one_line(text))", "return escape(text)",
           "cli/test_cli_tag.py::test_a_name_cannot_command_the_terminal"),
    Mutant("a cut's name leaves its folder", "outputs/cut.py", 'in "LNM" or c in "-_."', 'in "LNM" or c in "-_./"',
           "video/test_cutting.py::test_names_are_plain"),
    Mutant("a draft stays after a failure", "files.py", "            draft.unlink()", "            pass",
           "test_files.py"),
    # Learning
    Mutant("keep whatever is likelier", "finetune/keep.py", "likelier > _ERRORS * error and righter >= -noise",
           "likelier > 0", "finetune/test_regimes.py"),
    Mutant("weights mixed the wrong way", "finetune/keep.py", "torch.lerp(tuned[name], original[name], share)",
           "torch.lerp(original[name], tuned[name], share)", "finetune/test_regimes.py"),
    Mutant("a target beside the best counts", "dataset/metrics.py", "target in row[:k]", "target in row[: k + 1]",
           "dataset/test_metrics.py"),
)  # fmt: skip


def copied(folder: Path) -> Path:
    """A checkout to break: the package and the tests are copies, the rest is linked."""
    root = folder / "checkout"
    for name in ("xclip_cli", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    for name in _LINKED:
        (root / name).symlink_to(ROOT / name)
    if (ROOT.parent / "shared").is_dir():
        (folder / "shared").symlink_to(ROOT.parent / "shared")
    return root


def first_failure(root: Path, tests: str) -> str | None:
    """The first test that fails in this checkout; None where all pass."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-p", "no:cacheprovider", "--tb=no"]
    command += [f"tests/{name}" for name in tests.split()]
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return f"no end within {_SECONDS} s"
    found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", done.stdout, re.MULTILINE)
    if done.returncode == 0:
        return None
    return found[1] if found else f"exit code {done.returncode}: {done.stdout[-300:]}{done.stderr[-300:]}"


def main() -> None:
    chosen = [m for m in MUTANTS if not sys.argv[1:] or any(word in m.name for word in sys.argv[1:])]
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        root = copied(Path(folder))
        for mutant in chosen:
            path = root / "xclip_cli" / mutant.file
            whole = path.read_text(encoding="utf-8")
            if whole.count(mutant.old) != 1:
                sys.exit(f"{mutant.name}: {mutant.old!r} stands {whole.count(mutant.old)} times in {mutant.file}")
            path.write_text(whole.replace(mutant.old, mutant.new), encoding="utf-8")
            failure = first_failure(root, mutant.tests)
            path.write_text(whole, encoding="utf-8")
            survivors += failure is None
            print(f"{mutant.name}: {failure or 'SURVIVES'}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants are noticed")
    sys.exit(survivors > 0)


if __name__ == "__main__":
    main()
