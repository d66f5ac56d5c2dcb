"""The same census without Kueue, one file after the other: what the result must equal byte for byte.

python3 serial.py LIST RESULTS TOTAL
"""

from __future__ import annotations

import sys
from pathlib import Path

import count_tokens
import merge


def main(listing: str, results: str, total: str) -> None:
    """Count all files of the list here and now, then merge."""
    Path(results).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(Path(listing).read_text().splitlines()):
        count_tokens.main(name, str(Path(results) / f"{number}.json"))
    merge.main(listing, results, total)


if __name__ == "__main__":
    main(*sys.argv[1:])
