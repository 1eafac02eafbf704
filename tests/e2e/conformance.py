"""What schemathesis loads before it calls the service (see `tests/e2e/test_conformance.py`).

It generates without knowing what requests do: here they are kept on loopback, apart and short.
"""

from itertools import count
from typing import Any, Final

import schemathesis

NOWHERE: Final = "http://127.0.0.1:1/"
"""Where hooks are sent to: nobody listens there."""

_LONG: Final = 0.1  #: seconds

_numbers = count()


@schemathesis.hook
def before_call(
    _context: schemathesis.HookContext, case: schemathesis.Case[Any], _kwargs: dict[str, Any]
) -> None:
    """No hook gets an address of somebody, and no two requests the same idempotency key.

    Most conditions are left out, for no generated version is the present one; a valid time to wait
    is cut short.
    """
    config = case.body.get("config") if isinstance(case.body, dict) else None
    if isinstance(config, dict) and str(config.get("url", "")).lower().startswith("http"):
        config["url"] = NOWHERE
    number = next(_numbers)
    headers: Any = case.headers or {}
    query: Any = case.query or {}
    if 0 < len(str(headers.get("Idempotency-Key", ""))) < 200:
        headers["Idempotency-Key"] += f"-{number}"
    if number % 8:
        headers.pop("If-Match", None)
    if isinstance(query.get("wait"), int | float) and _LONG < query["wait"] <= 60:
        query["wait"] = _LONG
