"""What needs no daemon: help, versions, usage errors, exit codes, completion, output."""

import json
import os
import subprocess
import sys

import click
import pytest

from penstock.cli import output
from penstock.cli.exits import EXIT_CODES, exit_code
from penstock.cli.main import cli
from penstock.peers import errors


def penstock(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}
    return subprocess.run(
        [sys.executable, "-m", "penstock.cli", *words],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env=environment | variables,
        check=False,
    )


def leaves(node: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    if isinstance(node, click.Group):
        return [leaf for name, child in node.commands.items() for leaf in leaves(child, (*path, name))]
    return [(path, node)]


LEAVES = leaves(cli)


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    done = penstock("--version")
    assert (done.returncode, done.stdout.split()[-1]) == (0, version("penstock"))


def test_every_verb_of_the_contract_exists() -> None:
    wanted = (
        "init; serve; up; status; metrics; check; backup; queue create; queue list; queue show; queue delete; "
        "queue purge; queue pause; queue resume; queue move; queue peek; queue configure; topic create; "
        "topic configure; topic list; topic show; topic replay; topic delete; group create; group list; group show; "
        "group seek; group retry; group delete; push; pull; job submit; job call; job list; job show; job log; "
        "job wait; job drain; job result; job cancel; job retry; job explain; events; schedule add; schedule list; "
        "schedule show; schedule remove; schedule pause; schedule resume; schedule run; pool start; pool status; "
        "pool stop; cluster status; "
        "cluster add; cluster remove; cluster transfer; cluster snapshot; cluster force-new; node list; "
        "node crash; demo forecast; demo failover; bench; completion"
    )
    assert {tuple(verb.split()) for verb in wanted.split("; ")} == {path for path, _ in LEAVES}


@pytest.mark.parametrize(("path", "verb"), LEAVES, ids=[" ".join(path) for path, _ in LEAVES])
def test_every_verb_takes_the_common_options_and_says_what_it_does(path: tuple[str, ...], verb: click.Command) -> None:
    names = {name for option in verb.params for name in option.opts}
    assert {"--json", "--endpoint", "--user", "--timeout"} <= names
    assert verb.help
    for option in verb.params:
        if isinstance(option, click.Option) and not option.hidden and option.name != "yes":
            assert option.help, option.name


@pytest.mark.parametrize("name", ["delete", "purge"])
@pytest.mark.parametrize("group", ["queue", "topic", "group"])
def test_what_destroys_asks_unless_yes(group: str, name: str) -> None:
    node = cli.commands[group]
    assert isinstance(node, click.Group)
    if name in node.commands:
        assert "--yes" in {word for option in node.commands[name].params for word in option.opts}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["queue", "create"], "Missing argument 'NAME'"),
        (["queue", "create", "a", "--max-messages", "many"], "'many' is no count"),
        (["queue", "create", "a", "--max-bytes", "5 quarts"], "is no size"),
        (["queue", "create", "a", "--retry-delay", "soon"], "is no duration"),
        (["status", "--timeout", "soon"], "--timeout"),
        (["pull", "a", "-n", "-1"], "-1 is not in the range"),
        (["push", "a"], "one body is needed"),
        (["push", "a", "body", "--header", "novalue"], "has no ="),
        (["push", "a", "--file", "no/such/file"], "does not exist"),
        (["job", "submit", "q", "{assets"], "is no JSON"),
        (["job", "submit", "forecast", "[1]"], "give a JSON object"),
        (["job", "submit", "q", "1", "--tasks", "no.such.module"], "no.such.module"),
        (["bench", "--cases", "speed"], "there is no case 'speed'"),
        (["serve", "--config", "no/such.toml"], "cannot read the configuration"),
        (["serve", "--listen", "tcp://0.0.0.0:1"], "listen on loopback or ipc"),
        (["pool", "start", "--tasks", "no.such.module"], "no.such.module"),
        (["completion", "tcsh"], "tcsh"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_is_wrong_on_stderr(words: list[str], says: str) -> None:
    done = penstock(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [[], ["queue"]])
def test_without_a_verb_the_verbs_are_told(words: list[str]) -> None:
    done = penstock(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: penstock")
    assert "Commands:" in done.stderr


def test_errors_are_json_with_json() -> None:
    done = penstock("queue", "create", "--json")
    assert done.returncode == 2
    assert set(json.loads(done.stderr)["error"]) == {"code", "message", "hint", "retryable"}


def test_no_daemon_exits_5_soon_and_says_how_to_start_one(tmp_path: object) -> None:
    done = penstock("status", "--endpoint", f"ipc://{tmp_path}/none", "--timeout", "300ms")
    assert done.returncode == 5
    assert "no daemon answers" in done.stderr
    assert "penstock up" in done.stderr


def test_the_endpoint_may_come_from_a_variable_or_stand_before_the_verb(tmp_path: object) -> None:
    by_variable = penstock("status", PENSTOCK_ENDPOINT=f"ipc://{tmp_path}/one", PENSTOCK_TIMEOUT="200ms")
    assert f"{tmp_path}/one" in by_variable.stderr
    before = penstock("--endpoint", f"ipc://{tmp_path}/two", "--timeout", "200ms", "--json", "status")
    assert f"{tmp_path}/two" in json.loads(before.stderr)["error"]["message"]


def test_every_error_has_the_exit_code_of_the_contract() -> None:
    codes = {kind.__name__: exit_code(kind("x")) for kind in errors.ERRORS.values()}
    assert codes == {
        "JobFailed": 1, "JobCancelled": 1, "ProtocolError": 1,
        "InvalidArgument": 2, "NotFound": 3, "Unauthenticated": 4, "PermissionDenied": 4,
        "NotPrimary": 5, "NoQuorum": 5, "Closed": 5, "Timeout": 6,
        "AlreadyExists": 7, "QueueFull": 7, "TooLarge": 7, "StorageFull": 7, "LeaseLost": 7, "SessionExpired": 7,
    }  # fmt: skip
    assert all(issubclass(kind, errors.PenstockError) for kind in EXIT_CODES)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell: str) -> None:
    done = penstock("completion", shell)
    assert done.returncode == 0
    assert "_PENSTOCK_COMPLETE" in done.stdout


def test_completion_completes_verbs() -> None:
    done = penstock(_PENSTOCK_COMPLETE="bash_complete", COMP_WORDS="penstock queue c", COMP_CWORD="2")
    assert {line.split(",")[1] for line in done.stdout.split()} == {"create", "configure"}


def test_bench_names_its_cases() -> None:
    from penstock.cli.bench_cases import CASES, DEFAULT_CASES
    from penstock.cli.bench_scale import SCALE_CASES

    assert DEFAULT_CASES == ("publish", "publish_batches", "consume", "pipeline", "senders", "latency", "delivery")
    assert set(CASES) == {*DEFAULT_CASES, "backlog"}
    assert all(name in penstock("bench", "--help").stdout for name in [*CASES, *SCALE_CASES])


def test_json_takes_arrays_bytes_and_what_is_no_finite_number() -> None:
    import numpy as np

    value = {"a": np.arange(3), "b": np.float64(0.5), "c": b"text", "d": b"\xff", "e": float("nan"), "f": (1, None)}
    assert output.jsonable(value) == {"a": [0, 1, 2], "b": 0.5, "c": "text", "d": "/w==", "e": None, "f": [1, None]}


def test_a_field_of_a_line_never_breaks_the_line() -> None:
    assert output.cell("a\tb\nc") == "a b c"
    assert [output.cell(value) for value in (None, True, False, 5, [1])] == ["-", "yes", "no", "5", "[1]"]


@pytest.mark.parametrize("becomes", ["return 1", "raise SystemError('an import in C')", "raise"])
def test_who_was_terminated_says_so_whatever_became_of_it_on_the_way(becomes: str) -> None:
    code = (
        "import os, signal\nfrom penstock.cli import main\n"
        "def run(arguments):\n    try:\n        os.kill(os.getpid(), signal.SIGTERM)\n        signal.pause()\n"
        f"    except SystemExit:\n        {becomes}\n"
        "main.run = run\nmain.main([])\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 143
