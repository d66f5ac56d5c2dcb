"""One job of the census: counts the tokens of one Python source file by kind into a JSON file.

    python3 count_tokens.py SOURCE RESULT

The result is written beside its place and renamed, so a job that is killed leaves no half result and one
that runs again changes nothing.
"""

from __future__ import annotations

import json
import os
import sys
import token
import tokenize
from collections import Counter
from pathlib import Path


def count(source: Path) -> dict[str, object]:
    """Number of tokens of each kind; a file that Python itself can't tokenize is counted as such."""
    kinds: Counter[str] = Counter()
    try:
        with source.open("rb") as stream:
            for found in tokenize.tokenize(stream.readline):
                kinds[token.tok_name[found.exact_type]] += 1
    except (tokenize.TokenError, SyntaxError, UnicodeDecodeError) as error:
        return {"not_python": type(error).__name__}
    return {"tokens": dict(sorted(kinds.items()))}


def main(source: str, result: str) -> None:
    """Count `source` into `result`."""
    text = json.dumps(count(Path(source)), sort_keys=True) + "\n"
    partial = f"{result}.{os.getpid()}"
    Path(partial).write_text(text)
    Path(partial).replace(result)


if __name__ == "__main__":
    main(*sys.argv[1:])
