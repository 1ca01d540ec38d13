"""``audit-lit`` and ``python -m audit_lit``: an interruption while the command is imported has its exit code, too."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command."""
    try:
        from audit_lit.cli import main as run
    except KeyboardInterrupt:
        sys.exit(3)
    run()


if __name__ == "__main__":
    main()
