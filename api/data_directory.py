"""Where the data of commands beside the service is: found as `serve` finds it."""

import os
from pathlib import Path

from api import settings

SETTINGS_FILE = Path("hooktape.toml")


def data_directory(given: str | None) -> Path:
    """The command line's, or else that of the environment, the settings file, or the default.

    Raises SettingsError.
    """
    text = SETTINGS_FILE.read_text("utf-8") if SETTINGS_FILE.exists() else None
    chosen = {} if given is None else {"data_dir": given}
    return Path(settings.load(chosen, settings.read_files(os.environ), text).data_dir)
