"""Freeing decoded images that no study needs any more."""

from __future__ import annotations

from collections.abc import Iterable

from storage.database import Database
from storage.errors import NoDatabaseError
from storage.queries import list_studies, read_study
from study.home import Home
from trainer.data.cache_cleaning import Removed, clean_cache

CacheKey = tuple[str, int, bool]
"""What names a set of decoded images: content fingerprint, side in pixels, and whether JPEGs were decoded exactly."""


def clean_images(home: Home, keep: Iterable[CacheKey] = (), *, dry_run: bool = False) -> tuple[Removed, ...]:
    """Remove the decoded images of a home that none of its studies needs, and what interrupted work left.

    Args:
        home: whose cache to clean.
        keep: what to keep besides.
        dry_run: only tell what would be removed.

    Raises:
        StorageError: the database is there but cannot be read, so that nobody knows what is needed.
        DataError: something cannot be removed.
    """
    return clean_cache(home.cache, {*keep, *_needed(home)}, dry_run=dry_run)


def _needed(home: Home) -> set[CacheKey]:
    try:
        database = Database.open(home.storage_url, create=False)
    except NoDatabaseError:
        return set()
    try:
        records = [read_study(database, name) for name in list_studies(database)]
    finally:
        database.close()
    recipes = [(record.fingerprint, record.spec["recipe"]) for record in records]
    return {
        (fingerprint, int(recipe["image_size"]), bool(recipe.get("exact", False))) for fingerprint, recipe in recipes
    }
