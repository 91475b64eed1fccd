"""Errors that a user can mend. The command line prints their one sentence and exits with code 2.

Every message names the culprit (file, key, value) and the mend. Anything else that is raised is a
fault of genvlm and exits with code 1.
"""


class GenvlmError(Exception):
    """Base of every error caused by the input rather than by genvlm."""


class ConfigError(GenvlmError):
    """A configuration file or override has an unknown key, a wrong type or an impossible value."""


class DataError(GenvlmError):
    """A data file is missing, empty, malformed or does not fit its schema."""


class ImageError(DataError):
    """An image file is missing, truncated, too large, not an image, or of the wrong size."""


class VideoError(DataError):
    """A video file is missing, truncated, too large, no video, or took too long to decode."""


class TokenError(GenvlmError):
    """A token id, code or text lies outside what its vocabulary, grammar or context allows."""


class CheckpointError(GenvlmError):
    """A checkpoint, tokenizer or model folder is incomplete, altered or does not fit."""


class StorageError(GenvlmError):
    """A disk is full, read-only or gone, or a folder in use; what was written before is whole."""


class EvaluationError(GenvlmError):
    """Scores or predictions are undefined (NaN), incomplete, duplicated or of another benchmark."""


class TrainingError(GenvlmError):
    """Training cannot start or continue: folder in use, non-finite loss, unsupported precision."""


class GenerationError(GenvlmError):
    """Nothing can be drawn: the model gives NaN."""


class ModelError(GenvlmError):
    """A network predicts NaN or infinity."""


class DataWarning(UserWarning):
    """Files in a folder of data that are left out, counted and named."""


class CheckpointWarning(UserWarning):
    """Parts of a model folder that are not read, named."""


class GuidanceWarning(UserWarning):
    """Guidance of a model that has not learned what it is guided away from."""
