"""Errors a user can act on: one line that names the file, the item and the remedy."""


class TrackerError(Exception):
    """Something outside the program is wrong; the message says what, and what to do.

    The command line prints the message alone and exits with code 2.
    """


class VideoError(TrackerError):
    """A video file or frame folder cannot be used."""


class QueryError(TrackerError):
    """A query file, a grid request or a mask cannot be used."""


class ConfigError(TrackerError):
    """A setting is unknown, mistyped or out of range."""


class WeightsError(TrackerError):
    """Published or bundled weights are missing or do not fit."""


class CacheError(TrackerError):
    """A checkpoint or cache entry does not belong to this run or is cut short."""


class OutputError(TrackerError):
    """A result cannot be written: folder not writable, disk full."""


class DatasetError(TrackerError):
    """A data set folder or annotation file cannot be used."""


class TrainingError(TrackerError):
    """A training cannot go on."""


def one_line(error: BaseException) -> str:
    """The first words of an error message, on one line."""
    words = " ".join(str(error).split())
    return words if len(words) <= 160 else f"{words[:157]}..."
