"""The command line `kueue`. `main` is the program's outermost edge: whatever goes wrong becomes one line and a code."""

from __future__ import annotations

import os
import sys


def main(argv: list[str] | None = None) -> int:
    """Run a command; the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads us has had enough (`kueue logs 7 | head`); Python must not complain at exit either.
        _drop_output()
        return 128 + 13
    except OSError as error:  # of our own output: what a command meets has become a code already
        sys.stderr.write(f"kueue: can't write the output: {error.strerror}\n")
        _drop_output()
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _run(arguments: list[str]) -> int:
    # What a shell asks for at each login or key is not kept waiting for the parsers.
    if arguments == ["--version"]:
        from kueue import __version__

        print(f"kueue {__version__}")
        return 0
    if arguments in ([], ["-h"], ["--help"]):
        from kueue.cli.overview import overview

        print("\n".join(overview()))
        return 0 if arguments else 2
    if arguments[:1] == ["complete"] and len(arguments) == 2 and not arguments[1].startswith("-"):
        from kueue.cli.completion import print_script

        return print_script(arguments[1])
    if arguments[:1] == ["__complete"]:
        from kueue.cli.completion import print_candidates

        return print_candidates(arguments[1:])
    return _run_command(arguments)


def _run_command(arguments: list[str]) -> int:
    from kueue.cli.directives import with_directives
    from kueue.cli.outcome import outcome
    from kueue.cli.quick import parse, parse_submit

    complete: list[str] = []
    code = outcome(lambda: complete.extend(with_directives(arguments)))
    if code:
        return code
    submit = parse_submit(complete)
    if submit is not None:
        from kueue.cli import plain_cmd

        return outcome(lambda: plain_cmd.run(submit))
    call = parse(complete)
    if call is not None:
        from kueue.cli.session import Session

        return outcome(lambda: call.command.call(Session(call.config, call.colour), **call.values))
    from kueue.cli.app import run

    return run(complete)


if __name__ == "__main__":
    sys.exit(main())
