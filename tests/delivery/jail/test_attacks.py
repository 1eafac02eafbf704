"""The attacks of attacks.py against a real service with real workers, under both profiles."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from delivery.jail.frames import Limits
from tests.delivery.jail.attacks import ATTACKS, PROFILES, Attack, Campaign

ROOT = Path(__file__).parents[3]
GROWTH = 32 * 1024 * 1024
"""Bytes by which a service may have grown after all attacks: a few answers of the largest size."""


@pytest.fixture(scope="module")
def campaign() -> Campaign:
    """All attacks, run once by a service in a process of its own."""
    script = "from tests.delivery.jail.attacks import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=300, check=False
    )

    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.decode(done.stdout, type=Campaign)


CASES = [
    pytest.param(attack, profile, id=f"{attack.name}-{profile}")
    for attack in ATTACKS
    for profile in attack.profiles
]


def test_every_attack_has_a_name_of_its_own() -> None:
    """Else one would hide another."""
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize(("attack", "profile"), CASES)
def test_an_attack_is_a_failed_call_and_nothing_else(
    campaign: Campaign, attack: Attack, profile: str
) -> None:
    """It ends in a clean error or a kill within the hard limit; the calls after it work."""
    ended = campaign.ended[profile][attack.name]

    assert ended.error
    assert ended.killed or re.search(attack.ends, ended.error)
    assert "escaped" not in ended.error
    assert len(ended.error) <= 4 * Limits().error_size  # escaped after it was cut
    assert (ended.lines <= Limits().log_lines + 1, ended.effects) == (True, 0)
    assert ended.benign == (None, None)


def test_the_service_stays_as_it_was(campaign: Campaign) -> None:
    """Its memory is flat, and it never runs Lua itself."""
    before, after = campaign.resident

    assert after - before < GROWTH
    assert not campaign.has_lua


def test_both_kinds_of_end_happen(campaign: Campaign) -> None:
    """Most attacks get an error from inside, and those that nothing inside can see are killed."""
    for profile in PROFILES:
        killed = [ended.killed for ended in campaign.ended[profile].values()]

        assert 0 < sum(killed) < len(killed) / 2
