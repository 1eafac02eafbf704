"""Export the log for an auditor: `hooktape audit export` under the name of a script.

python scripts/audit_export.py OUTPUT [--since CHECKPOINT] [--hook ID] ...
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from api.cli import main

if __name__ == "__main__":
    main(["audit", "export", *sys.argv[1:]], prog_name="audit_export.py")
