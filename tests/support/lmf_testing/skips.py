"""With the variable LMF_TEST_NO_SKIPS, a test that is skipped has failed, unless its marker is `gpu`."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

NO_SKIPS = "LMF_TEST_NO_SKIPS"
MAY_SKIP = "gpu"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure; an expected failure, which pytest reports in the same way, stays what it is."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker(MAY_SKIP) is None:
        _forbid(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole file into a failure."""
    report = yield
    if report.skipped:
        _forbid(report)
    return report


def _forbid(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not os.environ.get(NO_SKIPS):
        return
    where = report.longrepr
    reason = where[2] if isinstance(where, tuple) else str(where)
    report.outcome = "failed"
    report.longrepr = (
        f"{report.nodeid}: skipped, but {NO_SKIPS} lets only tests with the marker {MAY_SKIP} be: {reason}"
    )
