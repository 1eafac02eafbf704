"""Files of newer programs: refused in one clear line, and left as they were."""

import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import anyio
import pytest

from tests.service import HOOKTAPE, Completed, Service, serving, shell

NEWER = {
    "the log": ("log.db", "PRAGMA user_version = 99", "schema version 99"),
    "the state of deliveries": ("state.db", "PRAGMA user_version = 99", "schema version 99"),
    "an event's shape": (
        "log.db",
        "DROP TRIGGER event_only_erase; UPDATE event SET schema_version = 9 WHERE kind = 0",
        "'entity_created' version 9 is unknown",
    ),
    "an event's type": (
        "log.db",
        "DROP TRIGGER event_only_erase; UPDATE event SET type = 'moved' WHERE kind = 0",
        "'moved' version 1 is unknown",
    ),
}


async def started(directory: Path) -> Completed:
    """A service that ends by itself."""
    command = f"{HOOKTAPE} serve --listen 127.0.0.1:0 --data-dir data"
    with anyio.fail_after(20):
        return await shell(command, directory)


async def fill(service: Service) -> None:
    await service.post("/consumers", {"username": "ada"})
    assert await service.stop() == 0


@pytest.mark.parametrize(("name", "sql", "sentence"), NEWER.values(), ids=list(NEWER))
async def test_an_older_program_does_not_touch_it(
    tmp_path: Path, name: str, sql: str, sentence: str
) -> None:
    """Exit code 69, a line that says what is newer, and the file byte for byte as before."""
    async with serving(tmp_path / "data") as service:
        await fill(service)
    for path in (tmp_path / "data").glob("view.db*"):
        path.unlink()  # made by the program of today; it would be made anew
    with closing(sqlite3.connect(tmp_path / "data" / name)) as connection:
        connection.executescript(sql)
    before = sha256((tmp_path / "data" / name).read_bytes()).digest()
    ended = await started(tmp_path)

    assert ended.code == 69
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert sha256((tmp_path / "data" / name).read_bytes()).digest() == before


async def test_a_view_of_a_newer_program_is_made_anew(tmp_path: Path) -> None:
    """It holds nothing that the log does not say."""
    async with serving(tmp_path / "data") as service:
        await fill(service)
    with closing(sqlite3.connect(tmp_path / "data" / "view.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    async with serving(tmp_path / "data") as service:
        assert (await service.get("/consumers/ada"))["username"] == "ada"
        assert "is made anew" in service.output
