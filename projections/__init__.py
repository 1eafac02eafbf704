"""State folded from the log: pure, replayable, without effects.

Loading the package enters every entity into the table of entities.
"""

from . import administration, credentials, gateway  # noqa: F401
