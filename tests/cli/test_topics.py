"""penstock topic, group: as one types them."""

import json
import subprocess
import sys
from typing import Any

import pytest
from kit.daemons import until

import penstock


def error_of(done: Any) -> Any:
    return json.loads(done.stderr.splitlines()[-1])["error"]


@pytest.fixture
def topic(shell: Any, name: str) -> str:
    shell.ok("topic", "create", name)
    shell.ok("push", name, "-", stdin="a\nb\nc\n")
    return name


def test_a_topic_tells_what_it_keeps_and_how_far_its_groups_are(shell: Any, name: str) -> None:
    words = ("--retention", "7d", "--retention-bytes", "1GiB", "--retention-messages", "1000")
    (made,) = shell.json("topic", "create", name, *words)
    assert made["options"]["retention_ms"] == 7 * 86_400_000
    assert made["options"]["retention_bytes"] == 2**30
    assert made["options"]["retention_messages"] == 1000
    shell.ok("group", "create", name, "mail")
    shell.ok("push", name, "-", stdin="1\n2\n")
    shell.ok("group", "create", name, "log", "--start", "latest")
    line = next(line for line in shell.ok("topic", "list").splitlines() if line.startswith(f"{name}\t"))
    assert line.split("\t")[1:3] == ["0", "2"]
    assert line.split("\t")[4:6] == ["2", "2"]  # groups, lag
    shown = dict(line.split("\t", 1) for line in shell.ok("topic", "show", name).splitlines())
    assert (shown["groups.mail.lag"], shown["groups.log.lag"]) == ("2", "0")
    assert [group["name"] for group in shell.json("topic", "show", name)[0]["groups"]] == ["log", "mail"]


def test_queues_and_topics_show_the_options_that_they_have(shell: Any, topic: str) -> None:
    shell.ok("queue", "create", f"{topic}-queue")
    of_topic = set(shell.json("topic", "show", topic)[0]["options"])
    of_queue = set(shell.json("queue", "show", f"{topic}-queue")[0]["options"])
    both = of_topic & of_queue
    assert {"max_failures", "retry_delay_ms", "max_message", "ordered_by"} <= both
    assert of_topic - both == {"retention_ms", "retention_bytes", "retention_messages"}
    assert {"max_messages", "overflow", "rate", "max_leased", "unique_ms", "result_ttl_ms"} <= of_queue - both


def test_a_group_is_created_shown_moved_and_deleted(shell: Any, topic: str) -> None:
    (made,) = shell.json("group", "create", topic, "g", "--start", "offset", "--at", "1")
    assert (made["floor"], made["lag"]) == (1, 2)
    assert shell.ok("pull", topic, "--group", "g", "-n", "2", "--ack") == "b\nc\n"
    assert shell.json("group", "show", topic, "g")[0]["lag"] == 0
    assert shell.json("group", "seek", topic, "g", "--start", "earliest")[0]["lag"] == 3
    assert shell.ok("pull", topic, "--group", "g", "-n", "9", "--wait", "50ms", "--ack") == "a\nb\nc\n"
    assert shell.json("group", "seek", topic, "g", "--start", "time", "--at", "1h")[0]["floor"] == 0
    assert shell.json("group", "seek", topic, "g", "--start", "time", "--at", "2100-01-01")[0]["floor"] == 3
    line = shell.ok("group", "list", topic).split("\t")
    assert line[:2] == ["g", "0"]
    assert shell.json("group", "delete", topic, "g", "--yes") == [{"deleted": "g", "topic": topic}]
    assert shell("group", "show", topic, "g").returncode == 3


def test_a_group_gets_its_dead_letters_again(shell: Any, topic: str) -> None:
    for group in ("g", "h"):
        shell.ok("group", "create", topic, group)
    with penstock.connect(shell.endpoint) as client, client.consumer(topic, group="g") as consumer:
        consumer.reject_many(consumer.receive_many(3, timeout=10)).wait()
    assert shell.json("group", "retry", topic, "g", "--limit", "1") == [{"topic": topic, "group": "g", "retried": 1}]
    assert shell.json("group", "retry", topic, "g")[0]["retried"] == 2
    assert shell.json("group", "retry", topic, "h")[0]["retried"] == 0
    assert shell.ok("pull", topic, "--group", "g", "-n", "3", "--ack") == "a\nb\nc\n"
    assert shell("group", "retry", topic, "nobody").returncode == 3
    done = shell("job", "retry", "--dead", "--queue", topic)
    assert done.returncode == 2
    assert "retry a group" in done.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--start", "offset"), "--at"),
        (("--start", "time"), "--at"),
        (("--start", "earliest", "--at", "3"), "--at 3"),
        (("--start", "offset", "--at", "two"), "--at two"),
        (("--start", "time", "--at", "soon"), "soon"),
        (("--start", "middle"), "middle"),
        ((), "--start"),
    ],
)
def test_a_place_that_is_none_is_usage(shell: Any, topic: str, words: tuple[str, ...], named: str) -> None:
    done = shell("group", "seek", topic, "g", *words)
    assert done.returncode == 2
    assert named in done.stderr


def test_an_offset_behind_the_end_is_refused(shell: Any, topic: str) -> None:
    done = shell("group", "create", topic, "g", "--start", "offset", "--at", "4", "--json")
    assert done.returncode == 2
    assert error_of(done)["code"] == "InvalidArgument"
    assert "offset 4" in error_of(done)["message"]


def test_a_topic_is_replayed_from_anywhere(shell: Any, topic: str) -> None:
    assert shell.ok("topic", "replay", topic) == "a\nb\nc\n"
    assert shell.ok("topic", "replay", topic, "--from", "1", "-n", "1") == "b\n"
    assert shell.ok("topic", "replay", topic, "--from", "1h", "--until", "2") == "a\nb\n"
    assert shell.ok("topic", "replay", topic, "--from", "2100-01-01T00:00Z") == ""
    assert shell.ok("topic", "replay", topic, "--from", "latest") == ""
    items = shell.json("topic", "replay", topic, "--from", "2", "--local")
    assert [(item["offset"], item["body"]) for item in items] == [(2, "c")]
    assert shell.ok("pull", topic, "--group", "late", "--start", "2") == "c\n"
    assert shell("topic", "replay", topic, "--from", "nowhere").returncode == 2
    assert shell("topic", "replay", "nowhere").returncode == 3


def test_a_followed_replay_prints_what_comes(shell: Any, topic: str) -> None:
    words = ["--endpoint", shell.endpoint, "topic", "replay", topic, "--from", "latest", "--follow", "-n", "2"]
    with subprocess.Popen([sys.executable, "-m", "penstock.cli", *words], stdout=subprocess.PIPE) as follows:
        until(lambda: shell.json("status")[0]["parked"] > 0, "the replay waits")
        shell.ok("push", topic, "d")
        shell.ok("push", topic, "e")
        out, _ = follows.communicate(timeout=20)
    assert out == b"d\ne\n"
    assert follows.returncode == 0


def test_retention_can_be_changed(shell: Any, topic: str) -> None:
    shell.ok("topic", "configure", topic, "--retention", "1d", "--retry-delay", "2s")
    (info,) = shell.json("topic", "configure", topic, "--retention-messages", "9", "--retention", "none")
    options = info["options"]
    assert (options["retention_ms"], options["retention_messages"], options["retry_delay_ms"]) == (None, 9, 2000)
