"""The `log` handler: one record per event, in the form of Kong's log callback.

The message is Kong's box of 120 columns around a Lua table; `fields` has the same as data, for a
log that is written as JSON.
"""

import logging
import os
import re
from collections.abc import Sequence
from typing import Any, Final

from .outcome import Delivery, Outcome
from .templates import number_text

NOTICE: Final = 25
"""Kong's level for this record, between the standard library's INFO and WARNING."""

WIDTH: Final = 120

_HEADER: Final = "[kong] event_hooks.lua:?:452 [core]"
"""Word for word, because people's log filters look for it."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SPECIAL = re.compile(r"[\x00-\x1f\x7f\\]")
_logger = logging.getLogger("hooktape.delivery.log")


class LogHandler:
    """Writes the event to the log. Always succeeds."""

    async def __call__(self, delivery: Delivery) -> Outcome:
        if delivery.dry_run:
            return Outcome(ok=True, result=True)
        pid = os.getpid()
        fields = {
            "event": delivery.event,
            "source": delivery.source,
            "data": delivery.data,
            "pid": pid,
        }
        text = boxed([delivery.event, delivery.source, delivery.data, pid])
        _logger.log(NOTICE, "%s", text, extra={"fields": fields})
        return Outcome(ok=True, result=True)


def boxed(values: Sequence[Any]) -> str:
    """The lines of Kong's box around `"log callback: "` and the values as one Lua table."""
    text = f'"log callback: " {_inspect(list(values), 0)}'
    rows = [line[at : at + WIDTH] for line in text.split("\n") for at in _pieces(line)]
    return "\n".join(
        [
            f"{_HEADER:-<{WIDTH + 1}}+",
            *(f"|{row:<{WIDTH}}|" for row in rows),
            f"+{'-' * WIDTH}+",
        ]
    )


def _pieces(line: str) -> range:
    return range(0, max(len(line), 1), WIDTH)


def _inspect(value: Any, level: int) -> str:
    """A value as Lua source, laid out like the inspect library that Kong prints with."""
    if isinstance(value, dict):
        return _table(value, level)
    if isinstance(value, list):
        inside = ", ".join(_inspect(item, level + 1) for item in value)
        return f"{{ {inside} }}" if value else "{}"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nil"}[value]
    return number_text(value)


def _table(value: dict[str, Any], level: int) -> str:
    """Keys in order; an entity's nulls are absent, as in Lua."""
    indent = "  " * (level + 1)
    lines = [
        f"{indent}{_key(key)} = {_inspect(item, level + 1)}"
        for key, item in sorted(value.items())
        if item is not None
    ]
    return "{\n" + ",\n".join(lines) + f"\n{'  ' * level}}}" if lines else "{}"


def _key(key: str) -> str:
    return key if _IDENTIFIER.fullmatch(key) else f"[{_string(key)}]"


def _string(value: str) -> str:
    text = _SPECIAL.sub(_escaped, value)
    if '"' in text and "'" not in text:
        return f"'{text}'"
    return '"' + text.replace('"', '\\"') + '"'


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    named = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    return named or f"\\{ord(character):03}"
