"""One log for everything: structlog and the standard library's loggers write the same lines.

Two forms. `text` looks like Kong's error log, `2026/11/21 12:30:00 [notice] 4711#0: message`, and
gives every line of a longer message that head. `json` is one object per line with `time`, `level`,
`logger` and `message`.

Code below `api/` logs with `logging.getLogger("hooktape.<package>")`. A record may carry details
for machines, `extra={"fields": {...}}`: they are merged into the JSON object and may replace
`message` but not the other three. The text form leaves them out, so a message must be complete.
"""

import datetime
import io
import json
import logging
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import msgspec
import structlog

NOTICE = 25
"""Kong's level between info and warn, that of the log handler's records."""

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "notice": NOTICE,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "crit": logging.CRITICAL,
}
_NAMES = {number: name for name, number in LEVELS.items()}

# Whoever can choose a name or a payload must not steer the terminal of whoever reads the log.
_CONTROL = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)
}


def configure(level: str, format: Literal["auto", "text", "json"], stream: TextIO) -> None:
    """Send every record of `level` (a key of `LEVELS`) or above to `stream`.

    `auto` stands for text on a terminal and JSON elsewhere. Libraries are heard from `warn` on
    (uvicorn from `info` on): below that they write down SQL parameters and request bodies. May be
    called again, which replaces what was set.
    """
    text = stream.isatty() if format == "auto" else format == "text"
    if isinstance(stream, io.TextIOWrapper):  # a character it lacks must not cost the line
        stream.reconfigure(errors="backslashreplace")
    logging.addLevelName(NOTICE, "notice")
    handler = logging.StreamHandler(stream)
    handler.set_name("hooktape")
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.contextvars.merge_contextvars],
            processors=[structlog.processors.format_exc_info, _as_text if text else _as_json],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [each for each in root.handlers if each.name != "hooktape"]
    root.addHandler(handler)
    root.setLevel(max(LEVELS[level], logging.WARNING))
    logging.getLogger("uvicorn").setLevel(max(LEVELS[level], logging.INFO))
    logging.getLogger("hooktape").setLevel(LEVELS[level])
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _as_text(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    record: logging.LogRecord = event.pop("_record")
    event.pop("_from_structlog")
    time = datetime.datetime.fromtimestamp(record.created, datetime.UTC).astimezone()
    head = f"{time:%Y/%m/%d %H:%M:%S} [{_level(record)}] {record.process}#0: "
    message = str(event.pop("event"))
    exception = event.pop("exception", None)
    if "\n" not in message:  # a drawn box stays as it is
        message = " ".join([message, *(f"{name}={value!r}" for name, value in event.items())])
    lines = message if exception is None else f"{message}\n{exception}"
    return "\n".join(head + line for line in lines.translate(_CONTROL).split("\n"))


def _as_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    record: logging.LogRecord = event.pop("_record")
    event.pop("_from_structlog")
    time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    head = {
        "time": time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "level": _level(record),
        "logger": record.name,
    }
    fields = getattr(record, "fields", {})
    line = {**head, "message": event.pop("event"), **event, **fields, **head}
    try:
        return msgspec.json.encode(line, enc_hook=str).decode()
    except UnicodeEncodeError:  # half a surrogate pair: bytes of a header that were no UTF-8
        return json.dumps(line, default=str, skipkeys=True)


def _level(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelno, record.levelname.lower())
