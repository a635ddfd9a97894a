"""What can be wrong with a request for a study."""

from __future__ import annotations


class StudyError(Exception):
    """The request cannot be carried out; the message is one line for the person who made it."""
