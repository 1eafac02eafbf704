"""Options that say which log, and which of its events, an audit is about."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click

from eventstore.records import Kind
from eventstore.selection import Selection

F = TypeVar("F", bound=Callable[..., None])


class _Time(click.ParamType[int]):
    """ISO 8601 to microseconds; UTC unless it says otherwise."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            given = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no ISO 8601 time, like 2026-01-31T12:00:00Z", param, ctx)
        known = given if given.tzinfo else given.replace(tzinfo=UTC)
        return round(known.timestamp() * 1_000_000)


_KINDS: Final = [kind.name.lower() for kind in Kind]

DATA_DIR: Final = click.option(
    "--data-dir", metavar="DIR", help="Where the log is. [default: as for serve]"
)
_FILTERS: Final = (
    click.option("--from", "first", metavar="POSITION", type=click.IntRange(1)),
    click.option("--to", "last", metavar="POSITION", type=click.IntRange(1)),
    click.option("--workspace", metavar="ID"),
    click.option("--actor", metavar="NAME"),
    click.option("--hook", metavar="ID", help="Changes of this hook, and its deliveries."),
    click.option("--entity", metavar="TABLE[/ID]", help="Changes of these entities."),
    click.option("--kind", "kinds", multiple=True, type=click.Choice(_KINDS)),
    click.option("--after", "since_us", metavar="TIME", type=_Time(), help="ISO 8601, inclusive."),
    click.option("--before", "until_us", metavar="TIME", type=_Time(), help="Inclusive too."),
)


def filtered(command: F) -> F:
    """Give a command the options that `selection` reads."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def selection(given: dict[str, Any]) -> Selection:
    """What the options of `filtered` say."""
    kinds = [Kind[name.upper()] for name in given["kinds"]]
    return Selection(**{**given, "kinds": kinds})
