"""What tests measured is told at the end of the run, also where they pass and where another process ran them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

_TOLD = "told"

Tell = Callable[[str, str], None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Tells a figure under a name: `tell("false winners", "3 of 500")`."""
    return lambda name, text: record_property(_TOLD, f"{name}: {text}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print all that was told, by the tests' names."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    lines = {
        report.nodeid: [str(value) for name, value in report.user_properties if name == _TOLD]
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
    }
    told = [line for _, said in sorted(lines.items()) for line in said]
    if told:
        terminalreporter.section("measured by tests")
        for line in told:
            terminalreporter.write_line(line)
