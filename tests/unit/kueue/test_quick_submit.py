"""The quick way to submit a plain job: it sends what the client would send, and leaves everything else to it."""

from __future__ import annotations

import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kueue import quick_submit
from kueue.cli import submit as long_way
from kueue.cli.plain_cmd import spec_fields
from kueue.cli.quick import parse_submit
from kueue.client_config import ClientConfig
from kueue.directories import Reach
from kueue.environment import context_of
from kueue.errors import KueueError, UsageError
from kueue.inherited import inherited_environment
from kueue.job_encoding import Encoder
from kueue.wire.messages import Context, Spec

CONFIG = ClientConfig(path="/nowhere", shared_secret="s" * 30, job_default_cpus=2, job_default_ram_mb=512)
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)
OPTIONS = st.one_of(
    st.sampled_from(
        [
            *(["-j", "2"], ["-c", "4"], ["-r", "16G"], ["-p", "-7"], ["-p", "2000"], ["--max-restarts", "0"]),
            *(
                ["--no-restart"],
                ["--clean-env"],
                ["--env", "A=b"],
                ["--time-limit", "90s"],
                ["--time-limit", "0s"],
            ),
            *(["--retries", "3"], ["--retries", "-1"], ["--retry-delay", "5m"], ["--retry-delay", "0s"]),
            *(["--retry-delay", "4000d"], ["--retry-on", "75,1-3"], ["--retry-on", "256"]),
            *(
                ["-C", "/tmp"],
                ["-C", "."],
                ["-C", "/"],
                ["-C", "/dev/shm"],
                ["--resource", "b=2"],
                ["--resource", "a"],
                ["-r", "many"],
                ["-c", "0"],
            ),
        ]
    ),
    st.tuples(st.sampled_from(["-o", "-e", "--name", "-g", "--worker", "--not-worker"]), TEXT).map(list),
)
LINES = st.tuples(st.lists(OPTIONS, max_size=4), st.lists(TEXT, min_size=1, max_size=3)).map(
    lambda parts: ["cmd", *(word for option in parts[0] for word in option), "--", *parts[1]]
)


@given(LINES)
def test_what_is_sent_quickly_is_what_the_client_sends(arguments: list[str]) -> None:
    call = parse_submit(arguments)
    if call is None:
        return
    quick_reach, reach = (Reach(CONFIG.host_only_places, is_alone=False) for _ in range(2))
    try:
        fields = spec_fields(call.words, call.values, CONFIG, quick_reach)
        if fields is None:
            return
    except UsageError:
        with pytest.raises(KueueError):
            long_way.spec_of(call.words, call.values)
        return
    encoder = Encoder(CONFIG.job_default_cpus, CONFIG.job_default_ram_mb, reach)
    expected, context = encoder.encode(long_way.spec_of(call.words, call.values))
    assert quick_reach.warnings == reach.warnings
    extra = {"A": "b"} if "--env" in arguments else {}
    pairs = inherited_environment(os.environ, extra, clean=call.values["clean_env"])
    quick = quick_submit.context(pairs)
    assert quick == context  # to the byte, or equal environments would be kept twice
    assert msgspec.json.decode(quick_submit.encoded(quick_submit.spec(fields, quick)), type=Spec) == expected


@given(st.dictionaries(TEXT.filter(lambda text: "=" not in text and "\0" not in text), st.text(max_size=6)))
def test_an_environment_has_the_same_bytes_however_it_is_encoded(extra: dict[str, str]) -> None:
    extra = {name: value.replace("\0", "") for name, value in extra.items()}
    pairs = inherited_environment({}, extra, clean=False)
    whole = context_of({}, extra, clean=False)
    try:
        assert quick_submit.context(pairs) == whole
    except UnicodeEncodeError:  # not UTF-8: the client sends it as raw bytes
        assert b"b64" in whole
    else:
        assert isinstance(msgspec.json.decode(whole, type=Context), Context)
