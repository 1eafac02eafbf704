"""How a call to a worker went, as the service sees it: decoded, and safe to log."""

import logging
import re

import msgspec

from delivery.jail.frames import Effect, Report

_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with part `index` (from 0) of a program; `line` of a template, from 1."""

    index: int
    line: int | None
    text: str


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """How a call went: it succeeded when there are no `faults`. `lines` are (level, text).

    Control characters in faults and lines are escaped, so nothing here can forge a line of a log.
    `result` and the effects' contents are JSON. `killed`: the worker did not survive the call.
    `seconds`: from sending the call to its answer, by the service's clock; 0 if it was not sent.
    """

    faults: tuple[Fault, ...] = ()
    lines: tuple[tuple[int, str], ...] = ()
    result: bytes | None = None
    texts: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = ()
    killed: bool = False
    seconds: float = 0.0

    @property
    def error(self) -> str | None:
        """The first fault in one line; None after success."""
        return self.faults[0].text if self.faults else None


def failed(text: str, *, seconds: float = 0.0, killed: bool = False) -> Ran:
    """A call without a report."""
    return Ran(faults=(Fault(0, None, text),), seconds=seconds, killed=killed)


def reported(report: Report, seconds: float) -> Ran:
    """A call as its worker reported it."""
    lines = [(line.level, _text(line.text)) for line in report.lines]
    if report.dropped:
        lines.append((logging.WARNING, f"{report.dropped} more lines dropped"))
    return Ran(
        faults=tuple(Fault(f.index, f.line, _text(f.text)) for f in report.failures),
        lines=tuple(lines),
        result=report.result,
        texts=tuple(text.decode("utf-8", "replace") for text in report.texts),
        effects=tuple(report.effects),
        seconds=seconds,
    )


def _text(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
