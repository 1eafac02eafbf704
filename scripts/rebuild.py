"""Rebuild the read models from the log: `hooktape rebuild` under the name of a script.

python scripts/rebuild.py [MODEL ...] [--verify] [--from START] [--until N] ...
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from api.cli import main

if __name__ == "__main__":
    main(["rebuild", *sys.argv[1:]], prog_name="rebuild.py")
