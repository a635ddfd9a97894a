"""What can go wrong with what is remembered."""

from __future__ import annotations


class StorageError(Exception):
    """The database or the artifact store cannot do what was asked; the message is one line for a person."""


class StorageUnavailableError(StorageError):
    """The database cannot be reached or is too busy just now; the same call may succeed later."""


class NoDatabaseError(StorageError):
    """There is no database yet, or nothing of lmf is in it."""


class LeaseLostError(StorageError):
    """The caller's lease has run out or was taken over: it may write nothing more for its point."""
