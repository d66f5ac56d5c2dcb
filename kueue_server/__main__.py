"""`python -m kueue_server`."""

import sys

from kueue_server import main

sys.exit(main())
