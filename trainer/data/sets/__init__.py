"""The datasets that can be named, one file each: a module here with a `SOURCE` is all that a new one needs."""
