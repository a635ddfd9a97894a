"""Errors that the trainer raises on purpose; each carries one clear line for the user."""


class TrainerError(Exception):
    """Base of every error of this package: ``str(error)`` is one line for the user."""


class DataError(TrainerError):
    """A dataset, an image, a label table or a split cannot be used."""


class DeviceFailedError(TrainerError):
    """A graphics card or its driver failed; the process can compute nothing more on it, whatever it is to train."""


class LossError(TrainerError):
    """A loss was asked for, or called, with something that it cannot take."""


class ModelError(TrainerError):
    """A model or its pretrained weights cannot be had."""


class RecipeError(TrainerError):
    """A training recipe holds an unknown name or a figure out of its range."""


class CheckpointError(TrainerError):
    """A checkpoint is damaged, or belongs to another configuration."""


class DivergedError(TrainerError):
    """The training loss became infinite or not a number."""


class DeviceMemoryError(TrainerError):
    """The device has too little memory for this model, image size and batch."""


_LONGEST_REASON = 300


def one_line(error: BaseException) -> str:
    """What an error says, in one line that is not too long; its kind where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 3] + "..."
