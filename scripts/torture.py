"""Kills the service again and again under load, and checks that it keeps its promises.

    scripts/run torture                     a few hundred kills, about ten minutes
    scripts/run torture --kills 20 --seed 7
    scripts/run torture --keep ./torture    leave the data and what the receiver saw

Prints the seed first and every violation at the end; exit code 1 if there is any. The same seed
sends the same events and kills after the same times, but how far the service has come by then
depends on the machine.
"""

import random
import shutil
import sys
import tempfile
from pathlib import Path
from time import monotonic

import anyio
import click

from tests.faults.campaign import Campaign, Summary


@click.command()
@click.option("--kills", type=click.IntRange(1), default=300, show_default=True)
@click.option("--seed", type=int, help="What decides the load and the moments. [default: random]")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="An empty directory to work in; it stays. [default: a temporary one]",
)
def main(kills: int, seed: int | None, keep: Path | None) -> None:
    """SIGKILL the service KILLS times, at random moments under load."""
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    click.echo(f"seed {seed}")
    directory = Path(tempfile.mkdtemp(prefix="hooktape-torture-")) if keep is None else keep
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise click.UsageError(f"{directory} is not empty")
    campaign, start = Campaign(directory, seed), monotonic()
    with click.progressbar(length=kills, label="kills", show_pos=True) as bar:
        violations = anyio.run(campaign.run, kills, lambda: bar.update(1))
    click.echo(_told(campaign.summary(), kills, monotonic() - start))
    for violation in violations:
        click.echo(f"VIOLATION: {violation}", err=True)
    if keep is None and not violations:
        shutil.rmtree(directory)
    else:
        click.echo(f"everything is in {directory}")
    sys.exit(1 if violations else 0)


def _told(summary: Summary, kills: int, seconds: float) -> str:
    return (
        f"{kills} kills in {seconds:.0f} s: {summary.acknowledged} of {summary.attempted} events "
        f"acknowledged, {summary.stored} in the log, {summary.deliveries} deliveries, at most "
        f"{summary.repeated} of them repeated after one kill"
    )


if __name__ == "__main__":
    main()
