"""A process that compacts a stopped service's log as far as it can, and kills itself on the way.

    python compacting.py DIRECTORY COUNT

It dies by SIGKILL when the compaction reports for the COUNT-th time; each report is a line of its
output.
"""

import os
import signal
import sys
from pathlib import Path

import anyio

from api.offline import compacting
from eventstore.retention import Policy


async def main(directory: Path, count: int) -> None:
    reports = 0

    def progress(step: str, done: int, total: int) -> None:
        nonlocal reports
        reports += 1
        sys.stdout.write(f"{step} {done}/{total}\n")
        sys.stdout.flush()
        if reports == count:
            os.kill(os.getpid(), signal.SIGKILL)

    async with compacting(directory) as compaction:
        await compaction.run(Policy(max_events=0), progress)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
