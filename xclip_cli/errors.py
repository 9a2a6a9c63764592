"""Everything that xclip-cli raises on purpose.

XclipError                a run-time failure                        exit code 1
├── UsageError            the request itself is wrong               exit code 2
│   ├── LabelError        a label list or label file breaks a rule
│   └── MissingExtraError an optional package is asked for and not installed
├── VideoError            one video cannot be read; becomes an error row, never ends a batch
├── ModelError            a model is unknown, missing, damaged or of another architecture
├── OutputError           a result cannot be written
├── StoreError            an index is missing, damaged, busy or of another version
├── TrainingError         training cannot go on
└── Interrupted           the user pressed Ctrl-C                   exit code 130
"""


class XclipError(Exception):
    """One line of what is wrong (with the value and the rule), and a hint: what to do next."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(XclipError):
    exit_code = 2


class LabelError(UsageError):
    pass


class MissingExtraError(UsageError):
    pass


class VideoError(XclipError):
    pass


class ModelError(XclipError):
    pass


class OutputError(XclipError):
    pass


class StoreError(XclipError):
    pass


class TrainingError(XclipError):
    pass


class Interrupted(XclipError):
    exit_code = 130
