"""Frames through decord (extra ``decord``)."""


class DecordReader:
    def __init__(self, threads: int = 1):
        raise NotImplementedError
