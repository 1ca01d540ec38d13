"""``python -m audit_lit``: the same as ``audit-lit``."""

from audit_lit.cli import main

if __name__ == "__main__":
    main()
