"""What training and evaluation see of a clip."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from xclip_cli.checkpoint.registry import Preprocessing
from xclip_cli.dataset import Sample, read_samples
from xclip_cli.dataset.sources import leaks
from xclip_cli.errors import StoreError
from xclip_cli.finetune.augment import augment
from xclip_cli.finetune.job import stacked
from xclip_cli.finetune.store import VIEWS, ClipStore, seeded
from xclip_cli.tagger.preprocess import preprocess
from xclip_cli.video.pool import DecodePool
from xclip_cli.video.reader import open_reader, read_clip

SPEC = Preprocessing(resize=36, crop=32)


def quiet(done, total):
    pass


@pytest.fixture(scope="module")
def pool():
    with DecodePool(workers=1) as pool:
        yield pool


def front(frames):
    return frames.mean(dim=(3, 4)), frames[:, :, :, 0, 0]


@pytest.mark.parametrize("front", [None, front])
def test_evaluation_sees_what_tagging_sees(bars, pool, front):
    [sample, *_] = read_samples(bars)
    store = ClipStore(SPEC, 4, pool, front, "f")
    store.prepare([sample], False, quiet)
    frames = preprocess(read_clip(open_reader("opencv"), sample.path, 4).frames, SPEC)
    wanted = (frames,) if front is None else front(frames)
    for found, want in zip(store.evaluation(sample), wanted, strict=True):
        torch.testing.assert_close(found, want[0], rtol=0, atol=0 if front is None else 2e-3)


def test_training_views_are_drawn_by_the_generator_alone(bars, pool):
    [sample, *_] = read_samples(bars)
    store = ClipStore(SPEC, 4, pool)
    store.prepare([sample], True, quiet)
    one, same, other = (store.training(sample, seeded(seed))[0] for seed in (1, 1, 2))
    assert one.shape == (4, 3, 32, 32) and torch.equal(one, same) and not torch.equal(one, other)


def test_of_a_front_a_few_views_are_kept_and_the_plain_one_is_not_learned_from(bars, pool):
    [sample, *_] = read_samples(bars)
    store = ClipStore(SPEC, 4, pool, front, "f")
    store.prepare([sample], True, quiet)
    seen = {store.training(sample, seeded(seed))[0].numpy().tobytes() for seed in range(40)}
    assert 1 < len(seen) <= VIEWS and store.evaluation(sample)[0].numpy().tobytes() not in seen


def test_a_clip_is_decoded_once_until_it_changes(bars, pool, tmp_path, monkeypatch):
    [sample, *_] = read_samples(bars)
    path = tmp_path / "a.mp4"
    path.write_bytes(Path(sample.path).read_bytes())
    mine, store = Sample(str(path), "x"), ClipStore(SPEC, 4, pool)
    submitted, submit = [], pool.submit
    monkeypatch.setattr(pool, "submit", lambda *args, **more: submitted.append(args) or submit(*args, **more))
    for _ in range(2):
        store.prepare([mine], True, quiet)
    assert len(submitted) == 1
    os.utime(path, ns=(1, 1))
    store.prepare([mine], True, quiet)
    assert len(submitted) == 2


@pytest.mark.parametrize("front", [None, front])
def test_what_a_clip_shows_is_known_of_one_that_is_not_decoded_again(bars, pool, front):
    [sample, *_] = read_samples(bars)
    first, again = (ClipStore(SPEC, 4, pool, front, "seen").prepare([sample], True, quiet) for _ in range(2))
    assert again.seconds == first.seconds
    assert np.array_equal(again.thumbnails[sample], first.thumbnails[sample])
    assert first.thumbnails[sample].shape == (4, 16, 16) and first.thumbnails[sample].std() > 20


def test_a_clip_that_was_read_to_learn_from_is_validated_on_without_decoding_it_again(bars, pool, monkeypatch):
    [sample, *_] = read_samples(bars)
    plain = ClipStore(SPEC, 4, pool, front, "plain")
    plain.prepare([sample], False, quiet)
    varied = ClipStore(SPEC, 4, pool, front, "varied")
    varied.prepare([sample], True, quiet)
    monkeypatch.delattr(type(pool), "submit")
    for wanted, found in zip(plain.evaluation(sample), varied.evaluation(sample), strict=True):
        assert torch.equal(wanted, found)


def test_a_set_too_large_for_the_cache_is_decoded_at_each_use(bars, pool, monkeypatch):
    monkeypatch.setattr("xclip_cli.finetune.store.CACHE_BYTES", 1)
    chosen = read_samples(bars)[:3]
    store = ClipStore(SPEC, 4, pool, fingerprint="large")
    findings = store.prepare(chosen, True, quiet)
    assert set(findings.seconds) == set(chosen) and not store.path_of(chosen[2], True).exists()
    assert store.evaluation(chosen[2])[0].shape == (4, 3, 32, 32)


def test_drafts_of_killed_runs_do_not_stay(bars, pool, tmp_path, monkeypatch):
    monkeypatch.setenv("XCLIP_CACHE", str(tmp_path))
    old, young = (tmp_path / "clips" / f".xclip-{n * 8}-{n}-{n * 8}.part" for n in "12")
    old.parent.mkdir()
    for draft in (old, young):
        draft.write_bytes(b"half of it")
    os.utime(old, (1, 1))
    ClipStore(SPEC, 4, pool).prepare(read_samples(bars)[:1], True, quiet)
    assert not old.exists() and young.exists()  # which another process may be writing


def test_the_cache_never_holds_more_than_it_may_and_lets_go_of_what_was_not_used(bars, pool, tmp_path, monkeypatch):
    monkeypatch.setenv("XCLIP_CACHE", str(tmp_path))
    first, second, third, *_ = read_samples(bars)
    store = ClipStore(SPEC, 4, pool)
    store.prepare([first], True, quiet)
    [file] = (tmp_path / "clips").iterdir()
    monkeypatch.setattr("xclip_cli.finetune.store.CACHE_BYTES", int(2.5 * file.stat().st_size))
    store.prepare([second], True, quiet)
    for used, left, new in ((first, second, third), (third, first, second)):
        for moment, sample in enumerate((left, used), 1):
            os.utime(store.path_of(sample, True), (moment, moment))
        ClipStore(SPEC, 4, pool).prepare([used], True, quiet)
        ClipStore(SPEC, 4, pool).prepare([new], True, quiet)
        assert [store.path_of(sample, True).exists() for sample in (used, left, new)] == [True, False, True]


def test_a_run_never_lets_go_of_its_own_clips(bars, pool, tmp_path, monkeypatch):
    monkeypatch.setenv("XCLIP_CACHE", str(tmp_path))
    first, second, third, *_ = read_samples(bars)
    ClipStore(SPEC, 4, pool).prepare([first], True, quiet)
    [file] = (tmp_path / "clips").iterdir()
    monkeypatch.setattr("xclip_cli.finetune.store.CACHE_BYTES", int(2.5 * file.stat().st_size))
    store = ClipStore(SPEC, 4, pool)
    for part in ([first], [second], [third]):
        store.prepare(part, True, quiet)
    assert [store.path_of(sample, True).exists() for sample in (first, second, third)] == [True, True, False]


def test_what_cannot_be_read_is_said_and_what_stands_twice_is_found(bars, pool, tmp_path):
    first, second, *_ = read_samples(bars)
    copy, bad = tmp_path / "copy.mp4", tmp_path / "bad.mp4"
    copy.write_bytes(Path(first.path).read_bytes())
    bad.write_bytes(b"no video")
    twin, broken, gone = (Sample(str(p), "x") for p in (copy, bad, tmp_path / "gone.mp4"))
    findings = ClipStore(SPEC, 4, pool).prepare([first, second, twin, broken, gone], True, quiet)
    assert set(findings.unreadable) == {broken, gone}
    assert leaks([first, second], [twin], findings) == [(first, twin, "the same file")]
    assert findings.duplicates([first, second]) == [] and leaks([first, twin], [second], findings) == []
    assert findings.duplicates([first, twin]) == [(first, twin)]
    assert findings.seconds[first] == pytest.approx(1.0, abs=0.05)


def test_labels_with_a_side_are_never_mirrored():
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    frames[:, :, :16] = 255
    plain = Preprocessing(resize=32, crop=32)
    views = [augment(frames, plain, seeded(seed), flip=False) for seed in range(60)]
    assert all(view[..., :8].mean() >= view[..., -8:].mean() for view in views)
    mirrored = [augment(frames, plain, seeded(seed)) for seed in range(60)]
    assert 15 < sum(bool(view[..., :8].mean() < view[..., -8:].mean()) for view in mirrored) < 45


def replaced(change):
    """Changes the tensors of a file in the cache, and what stands beside them."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    def write(path):
        with safe_open(path, "pt") as file:
            about = file.metadata()
        tensors, about = change(load_file(path), about)
        save_file(tensors, path, about)

    return write


TAMPERED = {
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "a giant header": lambda path: path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:]),
    "empty": lambda path: path.write_bytes(b""),
    "no facts": replaced(lambda tensors, _: (tensors, {})),
    "a length that is NaN": replaced(lambda tensors, about: (tensors, about | {"seconds": "nan"})),
    "a length below 0": replaced(lambda tensors, about: (tensors, about | {"seconds": "-1"})),
    "few thumbnails": replaced(lambda tensors, about: (tensors, about | {"thumbnails": "00" * 256})),
    "no tensors": replaced(lambda _, about: ({}, about)),
    "few views": replaced(lambda tensors, about: ({n: t[:0].contiguous() for n, t in tensors.items()}, about)),
    "another type": replaced(lambda tensors, about: ({n: t.double() for n, t in tensors.items()}, about)),
    "few frames": replaced(lambda tensors, about: ({n: t[:, :1].contiguous() for n, t in tensors.items()}, about)),
    "NaN": replaced(lambda tensors, about: ({n: t.half() * float("nan") for n, t in tensors.items()}, about)),
}


@pytest.mark.parametrize("front", [None, front])
@pytest.mark.parametrize("name", TAMPERED)
def test_a_kept_clip_that_was_tampered_with_is_decoded_again(bars, pool, front, name):
    [sample, *_] = read_samples(bars)
    store = ClipStore(SPEC, 4, pool, front, "tampered")
    store.path_of(sample, True).unlink(missing_ok=True)
    first = store.prepare([sample], True, quiet)
    wanted = store.evaluation(sample)
    if front and name == "few frames":
        pytest.skip("only the front knows: see `stacked`")
    TAMPERED[name](store.path_of(sample, True))
    store = ClipStore(SPEC, 4, pool, front, "tampered")
    for found, want in zip(store.evaluation(sample), wanted, strict=True):
        torch.testing.assert_close(found, want, rtol=0, atol=0 if front is None else 2e-3)
    again = store.prepare([sample], True, quiet)
    assert again.seconds == first.seconds


def test_kept_clips_that_differ_in_kind_are_named(bars, pool):
    clips = [(torch.zeros(4, 3), torch.zeros(4)), (torch.zeros(3, 3), torch.zeros(4))]
    with pytest.raises(StoreError, match="in the cache is damaged") as caught:
        stacked(clips, torch.device("cpu"))
    assert "cache --clear" in caught.value.hint
