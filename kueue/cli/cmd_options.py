"""The options of `kueue cmd`."""

from __future__ import annotations

from kueue.cli.command import Option

OPTIONS = (
    Option("job_slots", ("-j", "--job-slots"), "text", "Job slots it takes.", "N", "1"),
    Option("cpus", ("-c", "--cpus"), "text", "CPUs it needs.", "N"),
    Option("ram", ("-r", "--ram-mb"), "text", "Memory in MB, or 512M, 16G.", "N"),
    Option("resource", ("--resource",), "many", "Licence or other resource (many).", "NAME[=N]"),
    Option("stdout", ("-o", "--stdout"), "text", "File for stdout (%j is the id); null discards.", "PATH"),
    Option("stderr", ("-e", "--stderr"), "text", "File for stderr (%j is the id); null discards.", "PATH"),
    Option("cwd", ("-C", "--cwd"), "text", "Run it there.", "DIR"),
    Option("wait", ("-w", "--wait"), "flag", "Wait; print its return code and exit with it.", None, False),
    Option(
        "follow",
        ("-f", "--follow"),
        "flag",
        "Wait; pass its output through, exit with its code.",
        None,
        False,
    ),
    Option("name", ("--name",), "text", "A name for people.", None, ""),
    Option("group", ("-g", "--group"), "text", "Group it belongs to.", "NAME"),
    Option("queue", ("-q", "--queue"), "text", "Queue it waits in.", "NAME", "default"),
    Option("priority", ("-p", "--priority"), "number", "-1000 to 1000, higher first.", "N", 0),
    Option(
        "max_restarts", ("--max-restarts",), "number", "Starts again so often if its worker is lost.", "N", 5
    ),
    Option("no_restart", ("--no-restart",), "flag", "Run it at most once.", None, False),
    Option("retries", ("--retries",), "number", "Tries again so often if it fails.", "N", 0),
    Option("retry_delay", ("--retry-delay",), "text", "Waits so long before that.", "DUR"),
    Option("retry_on", ("--retry-on",), "text", "Only for these exit codes: 1,75,100-110.", "CODES"),
    Option("time_limit", ("--time-limit",), "text", "End it after 90s, 15m, 1h30m, 2d.", "DUR"),
    Option("env", ("--env",), "many", "Set a variable, or keep yours (many).", "NAME[=VALUE]"),
    Option(
        "clean_env",
        ("--clean-env",),
        "flag",
        "Only PATH, HOME, and the like of your environment.",
        None,
        False,
    ),
    Option("worker", ("--worker",), "many", "Only on these workers (many).", "GLOB"),
    Option("not_worker", ("--not-worker",), "many", "Not on these workers (many).", "GLOB"),
    Option("after", ("--after",), "many", "Start when these have succeeded: ids, group=NAME (many).", "JOBS"),
    Option("after_any", ("--after-any",), "many", "Start when these have ended (many).", "JOBS"),
    Option(
        "on_failure",
        ("--on-failure",),
        "text",
        "If one of --after fails: cancel (default), run, hold.",
        "WHAT",
    ),
    Option(
        "each_line", ("--each-line",), "text", "A job for each line; {} is the line (- is stdin).", "FILE"
    ),
    Option("from_json", ("--from-json",), "text", "A job for each object; {key} is its value.", "FILE"),
    Option("array", ("--array",), "text", "A job for each index; {n} is it: 1-9,20, 1-1000:2.", "INDICES"),
    Option("max_running", ("--max-running",), "text", "So many of these run at a time at most.", "N"),
)
