"""SIGKILL at random moments under load. `scripts/run torture` does the same for longer."""

import random
from pathlib import Path

from tests.faults.campaign import Campaign

KILLS = 24


async def test_kills_lose_nothing_and_repeat_little(tmp_path: Path) -> None:
    """Two dozen lives of one data directory keep every promise of the log and of delivery."""
    seed = random.SystemRandom().randrange(2**32)

    violations = await Campaign(tmp_path, seed).run(KILLS)

    assert violations == [], f"seed {seed}"
