"""Datasets, from files on disk to decoded images and their split."""
