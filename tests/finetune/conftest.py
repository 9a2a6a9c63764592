"""A small dataset: moving bars, whose direction is the class."""

import pytest


def write_bar(path, towards, position, num_frames=12, size=48, ground=(0, 0, 0)):
    """A bar that moves right (towards 1) or left (-1); ``position`` sets its height and shade."""
    import cv2
    import numpy as np

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 12, (size, size))
    for i in range(num_frames):
        frame = np.full((size, size, 3), ground, np.uint8)
        at = int(i * (size - 12) / num_frames)
        at = at if towards > 0 else size - 12 - at
        frame[5 + position : 30 + position, at : at + 12] = 255 - 5 * position
        writer.write(frame)
    writer.release()


@pytest.fixture
def make_bar():
    return write_bar


@pytest.fixture(scope="session")
def bars(tmp_path_factory):
    """A folder of two classes, five clips each."""
    folder = tmp_path_factory.mktemp("bars")
    for towards, name in ((1, "forth"), (-1, "and back")):
        (folder / name).mkdir()
        for position in range(5):
            write_bar(folder / name / f"{position} {name}.mp4", towards, position)
    return folder


@pytest.fixture
def rooms(tmp_path):
    """Two classes that are easily told apart, dark and bright, eight clips each, no two alike."""
    import cv2
    import numpy as np

    for dark, name in ((0, "a dark room"), (160, "a bright room")):
        (tmp_path / "rooms" / name).mkdir(parents=True)
        for i in range(8):
            blocks = np.random.default_rng(dark + i).integers(dark, dark + 90, (12, 12), np.uint8)
            grey = cv2.resize(blocks, (48, 48), interpolation=cv2.INTER_NEAREST)
            path = tmp_path / "rooms" / name / f"{i}.mp4"
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 12, (48, 48))
            for _ in range(8):
                writer.write(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
            writer.release()
    return tmp_path / "rooms"
