"""A job as people ask for it: what it may be made of, and that it stays as it is."""

from __future__ import annotations

import pytest

from kueue.errors import UsageError
from kueue.job_spec import JobSpec, spec_of


def test_an_unknown_option_is_an_error_where_it_is_written() -> None:
    with pytest.raises(TypeError, match="cpu"):
        JobSpec(["true"], cpu=3)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="its own options"):
        spec_of(JobSpec(["true"]), {"cpus": 3})


# ---------------------------------------------------------------- directory


def test_a_spec_can_be_a_key_and_equal_ones_are_one() -> None:
    specs = {JobSpec(["true"], resources={"genus": 1}), JobSpec(("true",), resources={"genus": 1})}
    assert specs == {JobSpec(["true"], resources={"genus": 1})}
    assert JobSpec(["true"], cpus=2) not in specs


def test_only_the_command_goes_without_its_name_and_a_spec_does_not_change() -> None:
    with pytest.raises(TypeError):
        JobSpec(["true"], 4)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        JobSpec(["true"]).cpus = 4  # type: ignore[misc]
