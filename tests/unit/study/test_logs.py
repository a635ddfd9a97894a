import json
import logging

import pytest

from study.errors import StudyError
from study.logs import log_context, set_up_logging


def test_json_lines_name_study_trial_and_worker(capsys: pytest.CaptureFixture[str]):
    set_up_logging(as_json=True)
    logger = logging.getLogger("study.somewhere")
    with log_context(worker="host:1:2"):
        with log_context(study="s-é", trial=7):
            logger.info("said %s", "this")
        logger.warning("after")
    logger.info("outside\nof it")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["study"], line["trial"], line["worker"]) for line in lines] == [
        ("s-é", 7, "host:1:2"),
        (None, None, "host:1:2"),
        (None, None, None),
    ]
    assert [line["message"] for line in lines] == ["said this", "after", "outside\nof it"]
    assert lines[0]["level"] == "INFO"
    assert lines[0]["logger"] == "study.somewhere"
    assert lines[0]["time"].endswith("Z")


def test_errors_bring_their_traceback_in_one_document(capsys: pytest.CaptureFixture[str]):
    set_up_logging(as_json=True)
    try:
        raise ValueError("x")
    except ValueError:
        logging.getLogger("a").exception("went wrong")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: x" in json.loads(line)["exc_info"]


def test_lines_for_people_and_their_level(capsys: pytest.CaptureFixture[str]):
    set_up_logging(level="warning")
    logging.getLogger("a").info("small")
    logging.getLogger("a").warning("large")
    text = capsys.readouterr().err
    assert "WARNING large" in text
    assert "small" not in text


def test_an_unknown_level_is_refused():
    with pytest.raises(StudyError, match=r"--log-level: 'loud' is unknown; expected debug, info"):
        set_up_logging(level="loud")
