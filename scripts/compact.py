"""Compact the log: `hooktape compact` under the name of a script.

python scripts/compact.py --older-than 30d [--dry-run] ...
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from api.cli import main

if __name__ == "__main__":
    main(["compact", *sys.argv[1:]], prog_name="compact.py")
