"""Errors that the trainer raises on purpose; each carries one clear line for the user."""


class TrainerError(Exception):
    """Base of every error of this package: ``str(error)`` is one line for the user."""


class DataError(TrainerError):
    """A dataset, an image, a label table or a split cannot be used."""


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
