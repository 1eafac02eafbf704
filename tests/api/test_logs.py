"""What `api/logs.py` promises."""

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
import structlog

from api import logs

Configure = Callable[..., Any]

HEAD = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(\w+)\] \d+#0: (.*)")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def configured() -> Iterator[Configure]:
    """`configure`, with what it sets up put back afterwards; gives the stream written to."""
    loggers = [logging.getLogger(name) for name in ("", "hooktape", "uvicorn")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]

    def configure(
        format: Literal["auto", "text", "json"], level: str = "info", stream: Any = None
    ) -> Any:
        stream = stream or io.StringIO()
        logs.configure(level, format, stream)
        return stream

    yield configure
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


def objects(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def texts(stream: io.StringIO) -> list[tuple[str, ...]]:
    """Level and message of each line; fails for a line without the head."""
    found = [HEAD.fullmatch(line) for line in stream.getvalue().splitlines()]

    assert all(found), stream.getvalue()
    return [match.groups() for match in found if match]


def test_a_line_of_json_says_when_how_grave_who_and_what(configured: Configure) -> None:
    """Both kinds of loggers write the same object, with the details they were given."""
    stream = configured("json")
    logging.getLogger("hooktape.delivery").warning("parked %d", 3, extra={"fields": {"hook": "h"}})
    structlog.get_logger("hooktape.api").info("started", port=8001)
    first, second = objects(stream)

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first.pop("time"))
    assert first == {
        "level": "warn",
        "logger": "hooktape.delivery",
        "message": "parked 3",
        "hook": "h",
    }
    assert second.pop("time")
    assert second == {
        "level": "info",
        "logger": "hooktape.api",
        "message": "started",
        "port": 8001,
    }


def test_a_line_of_text_looks_like_kongs_error_log(configured: Configure) -> None:
    """Details of structlog are appended; fields are for machines only."""
    stream = configured("text")
    logging.getLogger("hooktape.delivery").error("parked", extra={"fields": {"hook": "h"}})
    structlog.get_logger("hooktape.api").info("started", port=8001, host="a b")

    assert texts(stream) == [("error", "parked"), ("info", "started port=8001 host='a b'")]


def test_a_box_is_printed_line_by_line(configured: Configure) -> None:
    """Each line of a longer message has the head, and nothing is added, as in Kong's log."""
    structlog.contextvars.bind_contextvars(request_id="r-1")
    stream = configured("text")
    logging.getLogger("hooktape.delivery.log").log(25, "+---+\n| x |\n+---+")

    assert texts(stream) == [("notice", "+---+"), ("notice", "| x |"), ("notice", "+---+")]


def test_fields_may_replace_the_message_and_nothing_else_of_the_head(configured: Configure) -> None:
    """A drawn box gives way to a short label; a payload cannot pretend another time or logger."""
    stream = configured("json")
    fields = {"message": "log callback", "event": "consumers", "level": "crit", "time": 0}
    logging.getLogger("hooktape.delivery.log").log(25, "+--+\n|  |", extra={"fields": fields})
    (line,) = objects(stream)

    assert line["message"] == "log callback"
    assert line["event"] == "consumers"
    assert line["level"] == "notice"
    assert line["time"] != 0


def test_what_was_bound_to_the_request_is_on_every_line(configured: Configure) -> None:
    """A record of the standard library carries the request id as well."""
    structlog.contextvars.bind_contextvars(request_id="r-1")
    stream = configured("json")
    logging.getLogger("hooktape.eventstore").info("a")
    structlog.get_logger("hooktape.api").info("b")

    assert [line["request_id"] for line in objects(stream)] == ["r-1", "r-1"]


@pytest.mark.parametrize("format", ["text", "json"])
def test_an_exception_comes_with_its_traceback(
    configured: Configure, format: Literal["text", "json"]
) -> None:
    """In one object, or in lines that all have the head."""
    stream = configured(format)
    try:
        raise ValueError("what went wrong")
    except ValueError:
        logging.getLogger("hooktape.api").exception("failed")

    if format == "json":
        (line,) = objects(stream)
        assert line["message"] == "failed"
        assert line["exception"].endswith("ValueError: what went wrong")
    else:
        assert texts(stream)[0] == ("error", "failed")
        assert texts(stream)[-1] == ("error", "ValueError: what went wrong")


def test_nobody_can_steer_the_readers_terminal_or_forge_a_line(configured: Configure) -> None:
    """Control characters are shown, not sent, and a line break starts a line of the same record."""
    stream = configured("text")
    logging.getLogger("hooktape.api").info("a\x1b[2J\r\x9b\n2026/01/01 00:00:00 [crit] 1#0: b")

    assert texts(stream) == [
        ("info", "a\\x1b[2J\\x0d\\x9b"),
        ("info", "2026/01/01 00:00:00 [crit] 1#0: b"),
    ]


def test_the_level_decides_what_is_heard(configured: Configure) -> None:
    """Everything below it is left out, of both kinds of loggers."""
    stream = configured("text", "notice")
    for logger in (logging.getLogger("hooktape.api"), structlog.get_logger("hooktape.api")):
        logger.info("info")
        logger.warning("warning")
    logging.getLogger("hooktape.api").log(logs.NOTICE, "notice")

    assert texts(stream) == [("warn", "warning"), ("warn", "warning"), ("notice", "notice")]


def test_libraries_do_not_tell_what_they_handle(configured: Configure) -> None:
    """Even at debug, SQL parameters and request bodies stay out of the log; warnings are kept."""
    stream = configured("text", "debug")
    logging.getLogger("aiosqlite").debug("INSERT ... ('secret')")
    logging.getLogger("aiohttp.client").info("secret")
    logging.getLogger("uvicorn.error").debug("secret")
    logging.getLogger("uvicorn.error").info("started")
    logging.getLogger("aiosqlite").warning("slow")
    logging.getLogger("hooktape.api").debug("ours")

    assert [message for _, message in texts(stream)] == ["started", "slow", "ours"]


@pytest.mark.parametrize(("terminal", "as_json"), [(True, False), (False, True)])
def test_auto_is_text_on_a_terminal_only(
    configured: Configure, terminal: bool, as_json: bool
) -> None:
    """A person reads lines, a collector reads objects, and neither has to say so."""
    stream = configured("auto", stream=Terminal() if terminal else None)
    logging.getLogger("hooktape.api").info("x")

    assert stream.getvalue().startswith("{") is as_json


def test_configured_again_it_writes_once_and_to_the_new_stream(configured: Configure) -> None:
    """The second call replaces the first."""
    first, second = configured("text"), configured("json")
    logging.getLogger("hooktape.api").info("x")

    assert not first.getvalue()
    assert len(objects(second)) == 1


def test_nothing_that_is_logged_costs_its_line(configured: Configure) -> None:
    """Half a surrogate pair, odd keys, unknown types and long numbers are written somehow."""
    stream = configured("json")
    log = logging.getLogger("hooktape.api")
    log.info("\udc80", extra={"fields": {"error": ValueError("no"), "keys": {("x", 1): 2}}})
    log.info("a", extra={"fields": {"keys": {("x", 1): 2, None: 3}, "number": 2**70}})
    log.info("b", extra={"fields": {"set": {1}, "error": ValueError("no"), "nan": float("nan")}})
    first, second, third = objects(stream)

    assert (first["message"], first["error"], first["keys"]) == ("\udc80", "no", {})
    assert (second["keys"], second["number"]) == ({"('x', 1)": 2, "None": 3}, 2**70)
    assert (third["set"], third["error"], third["nan"]) == ([1], "no", None)


def test_a_stream_that_lacks_a_character_gets_it_spelt_out(configured: Configure) -> None:
    """A terminal or pipe that is not UTF-8 does not lose the line."""
    raw = io.BytesIO()
    stream = configured("text", stream=io.TextIOWrapper(raw, encoding="ascii"))
    logging.getLogger("hooktape.api").info("→ \udc80")
    stream.flush()

    assert raw.getvalue().endswith(b"\\u2192 \\udc80\n")
