"""The flat file: every cosine is there, and nothing else."""

import numpy as np
import pytest

from xclip_cli.errors import StoreError
from xclip_cli.index import rows


@pytest.fixture
def made(tmp_path):
    features = np.random.default_rng(0).standard_normal((5000, 24)).astype(np.float32) * 3
    rows.append(tmp_path / "m.rows", 0, features[:7])
    rows.append(tmp_path / "m.rows", 7, features[7:])
    return tmp_path / "m.rows", features


def test_cosines_are_those_of_all_rows(made, monkeypatch):
    path, features = made
    query = np.random.default_rng(1).standard_normal(24) * 5
    exact = features @ query / np.linalg.norm(features.astype(np.float64), axis=1) / np.linalg.norm(query)
    for share in (100, 4999, 1 << 16):
        monkeypatch.setattr(rows, "_SHARE_ROWS", share)
        np.testing.assert_allclose(rows.Rows(path, 24, 5000).cosines(query, [(0, 5000)]), exact, atol=1e-6)


def test_spans_alone_are_compared(made):
    path, features = made
    cosines = rows.Rows(path, 24, 5000).cosines(features[20], [(3, 5), (5, 6), (20, 21), (4990, 5000)])
    found = np.flatnonzero(cosines > -np.inf)
    assert found.tolist() == [3, 4, 5, 20, *range(4990, 5000)] and cosines[20] == pytest.approx(1)


def test_rows_that_do_not_count_are_written_over(made):
    path, features = made
    rows.append(path, 10, features[100:103])
    kept = rows.Rows(path, 24, 13)
    np.testing.assert_array_equal(kept.read(0, 13), np.concatenate([features[:10], features[100:103]]))
    assert len(kept.cosines(features[0], [(0, 13)])) == 13


def test_no_rows_are_an_empty_answer(tmp_path):
    none = rows.Rows(tmp_path / "none.rows", 0, 0)
    assert len(none.cosines(np.ones(4), [(0, 0)])) == 0


def test_a_row_of_zeros_is_like_nothing(tmp_path):
    rows.append(tmp_path / "m.rows", 0, np.zeros((2, 4), np.float32))
    assert rows.Rows(tmp_path / "m.rows", 4, 2).cosines(np.ones(4), [(0, 2)]).tolist() == [0, 0]


def test_a_file_that_ends_too_early_is_damaged(made):
    path, _ = made
    with pytest.raises(StoreError, match="damaged"):
        rows.Rows(path, 24, 5001)
