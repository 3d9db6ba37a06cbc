"""`python -m dynamodt`: the same as the `dynamodt` command."""

from __future__ import annotations

import sys

from dynamodt.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
