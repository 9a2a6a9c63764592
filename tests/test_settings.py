"""Options are checked where settings are made: what is no number in range is one plain error."""

import math

import numpy as np
import pytest

from xclip_cli.benchmark.settings import SpeedSettings
from xclip_cli.errors import UsageError
from xclip_cli.finetune.settings import FinetuneSettings
from xclip_cli.settings import TagSettings

NO_NUMBERS = (math.nan, math.inf, -math.inf, 1e308, -1, "1", True)
TIMELINE = {"window_seconds": 4}


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize(
    ("name", "also"),
    [
        ("decode_timeout_seconds", {}),
        ("threshold", {}),
        ("min_margin", {}),
        ("window_seconds", {}),
        ("stride_seconds", TIMELINE),
        ("threshold_low", TIMELINE),
        ("min_length_seconds", TIMELINE),
        ("max_gap_seconds", TIMELINE),
    ],
)
def test_what_is_no_number_in_range_is_refused(name, also, value):
    option = name.removesuffix("_seconds").replace("_", "-")
    with pytest.raises(UsageError, match=rf"^--{option} is .*: it must be "):
        TagSettings(**also, **{name: value})


@pytest.mark.parametrize("value", [math.nan, math.inf, 1.5, "2", True, 0])
@pytest.mark.parametrize("name", ["top_k", "num_clips", "num_crops", "batch_size", "workers", "smooth"])
def test_counts_are_whole_numbers(name, value):
    with pytest.raises(UsageError, match=f"^--{name.replace('_', '-')} is "):
        TagSettings(**{name: value})


@pytest.mark.parametrize("value", [math.nan, math.inf, 0, -1, 86401, 1e308])
@pytest.mark.parametrize("make", [TagSettings, FinetuneSettings])
def test_a_time_out_is_more_than_0_and_at_most_a_day(make, value):
    with pytest.raises(UsageError, match=r"--decode-timeout is .*: it must be more than 0 and at most 86400 seconds"):
        make(decode_timeout_seconds=value)


@pytest.mark.parametrize("name", ["lr", "shots", "epochs", "patience", "accumulate"])
@pytest.mark.parametrize("value", [math.nan, math.inf, "x"])
def test_training_takes_numbers(name, value):
    with pytest.raises(UsageError, match=f"^--{name.replace('_', '-')} is "):
        FinetuneSettings(**{name: value})


@pytest.mark.parametrize("name", ["keep", "val"])
@pytest.mark.parametrize("value", ["nan", "inf", "1e308"])
def test_shares_are_numbers(name, value):
    with pytest.raises(UsageError, match=f"^--{name} is "):
        FinetuneSettings(**{name: value})


def test_speed_counts_are_whole_numbers():
    for name in ("threads", "rounds"):
        with pytest.raises(UsageError, match=f"^--{name} is "):
            SpeedSettings(**{name: math.nan})


def test_numbers_of_numpy_are_numbers():
    settings = TagSettings(threshold=np.float32(0.25), top_k=np.int64(3), decode_timeout_seconds=86400)
    assert (settings.threshold, settings.top_k) == (0.25, 3)


@pytest.mark.parametrize("value", ["inf", "nan", "0", "-1", "1e308"])
@pytest.mark.parametrize("option", ["--decode-timeout", "--window", "--stride"])
def test_the_program_says_so_in_one_line(xclip, option, value, tmp_path):
    (tmp_path / "v.mp4").touch()
    window = ("--window", "4") if option == "--stride" else ()
    done = xclip("tag", tmp_path / "v.mp4", *window, f"{option}={value}")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"error: {option} is ") and "Traceback" not in done.stderr
