#!/usr/bin/env python3
"""Keeps a worker alive on every machine of a list, over ssh: `kueue_restart_workers`, run from a checkout.

What is installed under that name is the same program, `kueue.supervise.cli`.
"""

import sys

from kueue.supervise.cli import main

sys.exit(main())
