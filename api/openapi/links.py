"""Links from what makes an entity to what shows, changes and deletes it."""

import re
from typing import Any, Final

_LAST: Final = re.compile(r"/\{(\w+)\}$")
_POINTERS: Final = {"/admins": "/admin/id"}
"""Where the id is in the answer, but for those that have it at the top."""


def link(paths: dict[str, dict[str, Any]]) -> None:
    """Write into the answers of every POST to a collection what can be done with what it made."""
    for path, item in paths.items():
        last = _LAST.search(path)
        collection = path[: last.start()] if last else ""
        creation = paths.get(collection, {}).get("post")
        if last is None or creation is None or "patch" not in item:
            continue
        names = [each["name"] for each in item["parameters"] if "name" in each]
        given = {name: f"$request.path.{name}" for name in names}
        given[last[1]] = f"$response.body#{_POINTERS.get(collection, '/id')}"
        links = {
            operation["operationId"]: {"operationId": operation["operationId"], "parameters": given}
            for method, operation in item.items()
            if method != "parameters"
        }
        for status in {"200", "201"} & creation["responses"].keys():
            creation["responses"][status]["links"] = links
