"""Which machines a list names."""

from __future__ import annotations

import pytest

from kueue.errors import ConfigError
from kueue.supervise.hosts import Host, chosen, expand


def test_names_ranges_ports_and_accounts_are_taken_apart_in_their_order() -> None:
    words = ["rax11", "ralab[08-10,x]:2222", "you@rax12", "[fe80::1]:22", "[::1]", "a[1-2]b[3,4]", "rax11"]
    assert expand(words) == (
        Host("rax11"),
        *(Host(f"ralab{each}", 2222) for each in ("08", "09", "10", "x")),
        Host("rax12", None, "you"),
        Host("fe80::1", 22),
        Host("::1"),
        *(Host(f"a{one}b{two}") for one in (1, 2) for two in (3, 4)),
    )


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("rax[1-", "a bracket that is not closed"),
        ("rax[2-1]", "is no range of at most 10000 numbers, the smaller first"),
        ("rax[1-99999]", "is no range of at most 10000 numbers, the smaller first"),
        ("rax[1-100]x[1-200]", "more than 10000 hosts"),
        ("rax[]", "brackets hold numbers and ranges"),
        ("rax[*]", "brackets hold numbers and ranges"),
        ("rax:0", "a port is a number from 1 to 65535"),
        ("rax:", "a port is a number from 1 to 65535"),
        ("rax:2x", "a port is a number from 1 to 65535"),
        ("-oProxyCommand=x", "no name of a host"),
        ("@rax", "no name of an account before the @"),
        ("-l@rax", "no name of an account before the @"),
        ("rax;x", "no name of a host"),
        ("rax$(x)", "no name of a host"),
    ],
)
def test_a_word_that_names_no_machine_is_quoted_with_the_reason(word: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        expand([word])
    assert str(caught.value).startswith(f"[restart_workers] hostnames: {word}: ")
    assert reason in str(caught.value)


def test_chosen_hosts_are_those_of_the_list_by_name_with_or_without_port() -> None:
    hosts = expand(["rax[1-3]", "rax2:2222"])
    assert chosen(hosts, ["rax2"]) == (Host("rax2"), Host("rax2", 2222))
    assert chosen(hosts, ["rax2:2222", "RAX[1,3]"]) == (Host("rax2", 2222), Host("rax1"), Host("rax3"))
    with pytest.raises(ConfigError, match=r"--host rax9: not in \[restart_workers\] hostnames"):
        chosen(hosts, ["rax9"])
