"""The sections of a report, each with one sentence that says what to read from it."""
