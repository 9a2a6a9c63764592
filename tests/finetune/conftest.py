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
