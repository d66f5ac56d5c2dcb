"""`python -m kueue_worker`."""

import sys

from kueue_worker import main

sys.exit(main())
