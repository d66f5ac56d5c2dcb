"""`python -m kueue`."""

import sys

from kueue.cli import main

sys.exit(main())
