"""The last step of the census: merges the results of all files, in their order, into one JSON file.

    python3 merge.py LIST RESULTS TOTAL

LIST has one source file a line; the result of line n (from 0) is RESULTS/n.json. A missing one is an error.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path


def main(listing: str, results: str, total: str) -> None:
    """Merge, write `total`."""
    kinds: Counter[str] = Counter()
    refused: dict[str, str] = {}
    per_file: dict[str, int] = {}
    for number, name in enumerate(Path(listing).read_text().splitlines()):
        one = json.loads((Path(results) / f"{number}.json").read_text())
        if "not_python" in one:
            refused[name] = one["not_python"]
            continue
        kinds.update(one["tokens"])
        per_file[name] = sum(one["tokens"].values())
    merged = {
        "files": len(per_file) + len(refused),
        "not_python": refused,
        "tokens": dict(kinds.most_common()),
        "largest": dict(sorted(per_file.items(), key=lambda item: (-item[1], item[0]))[:10]),
        "total": sum(kinds.values()),
    }
    Path(total).write_text(json.dumps(merged, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
