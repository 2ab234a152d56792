"""penstock queue, topic, group, status."""

import json
from typing import Any

import pytest


def error_of(done: Any) -> Any:
    return json.loads(done.stderr.splitlines()[-1])["error"]


def test_status_tells_what_the_daemon_is(shell: Any) -> None:
    (status,) = shell.json("status")
    assert status["role"] == "primary"
    assert status["durability"] == "fsync"
    assert status["storage"]["full"] is False
    plain = dict(line.split("\t", 1) for line in shell.ok("status").splitlines())
    assert plain["role"] == "primary"
    assert plain["storage.full"] == "no"


def test_a_queue_is_created_shown_listed_and_deleted(shell: Any, name: str) -> None:
    (made,) = shell.json("queue", "create", name, "--max-messages", "5", "--max-bytes", "1MiB", "--retry-delay", "2s")
    assert (made["name"], made["kind"]) == (name, "queue")
    assert made["options"]["max_messages"] == 5
    assert made["options"]["max_bytes"] == 2**20
    assert made["options"]["retry_delay_ms"] == 2000
    assert shell.json("queue", "show", name)[0]["options"] == made["options"]
    assert name in [item["name"] for item in shell.json("queue", "list")]
    line = next(line for line in shell.ok("queue", "list").splitlines() if line.startswith(name))
    assert line.split("\t") == [name, "0", "0", "0", "0", "0", "0", "0", "-", "no"]
    assert shell.json("queue", "delete", name, "--yes") == [{"deleted": name}]
    assert shell("queue", "show", name).returncode == 3


def test_creating_what_exists_is_refused_with_7(shell: Any, queue: str) -> None:
    done = shell("queue", "create", queue, "--json")
    assert done.returncode == 7
    assert error_of(done)["code"] == "AlreadyExists"


@pytest.mark.parametrize("verb", ["show", "pause", "resume", "peek"])
def test_a_queue_that_is_not_there_is_3(shell: Any, verb: str) -> None:
    done = shell("queue", verb, "nowhere", "--json")
    assert done.returncode == 3
    assert error_of(done)["code"] == "NotFound"
    assert done.stdout == ""


def test_a_name_that_is_none_is_usage(shell: Any) -> None:
    done = shell("queue", "create", "no spaces")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("verb", ["delete", "purge"])
def test_what_destroys_refuses_when_nobody_can_answer(shell: Any, queue: str, verb: str) -> None:
    shell.ok("push", queue, "precious")
    done = shell("queue", verb, queue, stdin="y\n")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert shell.json("queue", "show", queue)[0]["ready"] == 1


def test_purge_tells_how_many_went(shell: Any, queue: str) -> None:
    shell.ok("push", queue, "-", stdin="a\nb\nc\n")
    assert shell.json("queue", "purge", queue, "--yes") == [{"name": queue, "purged": 3}]
    assert shell.json("queue", "show", queue)[0]["ready"] == 0


def test_a_paused_queue_gives_nothing_until_it_is_resumed(shell: Any, queue: str) -> None:
    shell.ok("push", queue, "x")
    assert shell.json("queue", "pause", queue)[0]["paused"] is True
    assert shell("pull", queue, "--wait", "50ms").returncode == 6
    assert shell.json("queue", "resume", queue)[0]["paused"] is False
    assert shell.ok("pull", queue) == "x\n"


def test_configure_changes_what_is_given_and_keeps_the_rest(shell: Any, queue: str) -> None:
    shell.ok("queue", "configure", queue, "--max-messages", "1", "--max-failures", "none")
    (info,) = shell.json("queue", "configure", queue, "--retry-delay", "1s")
    assert info["options"]["max_messages"] == 1
    assert info["options"]["max_failures"] is None
    assert info["options"]["retry_delay_ms"] == 1000
    shell.ok("queue", "configure", queue, "--max-messages", "none")
    assert shell.json("queue", "show", queue)[0]["options"]["max_messages"] is None


def test_peek_looks_without_taking(shell: Any, queue: str) -> None:
    shell.ok("push", queue, "-", "--key", "k", stdin="a\nb\nc\n")
    items = shell.json("queue", "peek", queue, "-n", "2")
    assert [(item["offset"], item["body"], item["key"]) for item in items] == [(0, "a", "k"), (1, "b", "k")]
    assert shell.ok("queue", "peek", queue, "-n", "1") == "0\tk\ta\n"
    assert shell.json("queue", "show", queue)[0]["ready"] == 3


def test_every_group_of_a_topic_sees_every_message(shell: Any, name: str) -> None:
    (made,) = shell.json("topic", "create", name, "--retention", "7d")
    assert made["kind"] == "topic"
    assert made["options"]["retention_ms"] == 7 * 86_400_000
    shell.ok("group", "create", name, "early")
    shell.ok("push", name, "-", stdin="1\n2\n")
    shell.ok("group", "create", name, "late", "--start", "latest")
    assert shell.ok("pull", name, "--group", "early", "-n", "2", "--ack") == "1\n2\n"
    assert shell("pull", name, "--group", "late", "--wait", "50ms").returncode == 6
    groups = {item["name"]: item for item in shell.json("group", "list", name)}
    assert groups["early"]["done"] == 2
    assert groups["late"]["ready"] == 0
    assert name in [item["name"] for item in shell.json("topic", "list")]
    assert name not in [item["name"] for item in shell.json("queue", "list")]
    shell.ok("group", "delete", name, "late", "--yes")
    assert [item["name"] for item in shell.json("topic", "show", name)[0]["groups"]] == ["early"]
    shell.ok("topic", "delete", name, "--yes")
    assert shell("topic", "show", name).returncode == 3


def test_completion_knows_the_names_of_queues(shell: Any, queue: str) -> None:
    done = shell(_PENSTOCK_COMPLETE="bash_complete", COMP_WORDS=f"penstock queue show {queue[:1]}", COMP_CWORD="3")
    assert queue in {line.split(",")[1] for line in done.stdout.split()}
