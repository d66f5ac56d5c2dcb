"""Values for `forging.py` that hypothesis draws, and so can shrink; or that a seeded generator throws."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st

from tests.hostile.forging import ODD_INTEGERS, ODD_NUMBERS, ODD_TEXTS

T = TypeVar("T")

INTEGERS = st.one_of(st.sampled_from(ODD_INTEGERS), st.integers(-(2**70), 2**70), st.integers(0, 100))
NUMBERS = st.one_of(st.sampled_from(ODD_NUMBERS), st.floats(allow_nan=False, allow_infinity=False))
TEXTS = st.one_of(st.sampled_from(ODD_TEXTS), st.text(st.characters(codec="utf-8"), max_size=20))


class Drawn:
    """A source that draws."""

    def __init__(self, data: st.DataObject, *, strict: bool) -> None:
        self._data = data
        self.strict = strict

    def choose(self, options: Sequence[T]) -> T:
        """One of these."""
        return options[self._data.draw(st.integers(0, len(options) - 1))]

    def integer(self) -> int:
        """Any."""
        return self._data.draw(INTEGERS)

    def number(self) -> float:
        """Any finite one."""
        return self._data.draw(NUMBERS)

    def text(self) -> str:
        """Any that JSON carries."""
        return self._data.draw(TEXTS)

    def blob(self) -> bytes:
        """Any."""
        return self._data.draw(st.binary(max_size=20))


class Thrown:
    """A source of a seed. `integers` and `texts` are worth trying besides the odd ones, and may grow."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.strict = False
        self.integers: list[int] = []
        self.texts: list[str] = []

    def choose(self, options: Sequence[T]) -> T:
        """One of these."""
        return self.random.choice(options)

    def integer(self) -> int:
        """One of those worth trying half of the time."""
        known = self.integers and self.random.random() < 0.6
        return self.random.choice(self.integers if known else ODD_INTEGERS)

    def number(self) -> float:
        """Any finite one."""
        return self.random.choice(ODD_NUMBERS)

    def text(self) -> str:
        """One of those worth trying half of the time."""
        known = self.texts and self.random.random() < 0.5
        return self.random.choice(self.texts if known else ODD_TEXTS)

    def blob(self) -> bytes:
        """Any."""
        return self.random.randbytes(self.random.randrange(20))
