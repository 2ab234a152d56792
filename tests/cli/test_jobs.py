"""penstock job, with a worker that is a plain consumer: what the pool does, without MPI."""

import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import penstock
from penstock.peers.values import unpack


@pytest.fixture
def worked(shell: Any, queue: str) -> Iterator[str]:
    """A queue whose jobs {"x": n} are answered with n * n; those without x fail for good."""
    with penstock.connect(shell.endpoint) as client, client.consumer(queue) as consumer:

        def work() -> None:
            for message in consumer:
                value = unpack(message.body)
                if "x" in value:
                    message.complete(value["x"] ** 2).wait()
                else:
                    error = {"type": "KeyError", "message": "no x", "traceback": "the trace of it", "rank": 1}
                    message.reject("no x", error=error).wait()

        worker = threading.Thread(target=work)
        worker.start()
        try:
            yield queue
        finally:
            consumer.stop()
            worker.join()


def test_submit_and_wait_prints_the_result(shell: Any, worked: str) -> None:
    assert shell.ok("job", "submit", worked, '{"x": 7}', "--wait") == "49\n"


def test_a_call_prints_the_result_and_leaves_nothing_behind(shell: Any, worked: str) -> None:
    assert shell.ok("job", "call", worked, '{"x": 7}') == "49\n"
    assert shell.ok("job", "call", worked, '{"x": 2.5}', "--priority", "9", "--json", "--timeout", "30s") == "6.25\n"
    assert shell("job", "result", f"{worked}/0").returncode == 3


def test_a_call_that_fails_exits_1_with_its_traceback(shell: Any, worked: str) -> None:
    done = shell("job", "call", worked, '{"y": 7}')
    assert (done.returncode, done.stdout) == (1, "")
    assert "the trace of it" in done.stderr
    assert "on rank 1: KeyError: no x" in done.stderr
    error = json.loads(shell("job", "call", worked, '{"y": 7}', "--json").stderr)["error"]
    assert (error["code"], error["rank"]) == ("JobFailed", 1)


def test_a_call_that_nobody_answers_in_time_exits_6_and_its_job_is_cancelled(shell: Any, queue: str) -> None:
    assert shell("job", "call", queue, "1", "--timeout", "300ms").returncode == 6
    assert shell.json("queue", "show", queue)[0]["ready"] == 0
    assert shell("job", "call", queue, "2", "--timeout", "2s", "--keep").returncode == 6
    assert shell.json("queue", "show", queue)[0]["ready"] == 1


def test_a_call_that_makes_no_sense_is_refused_before_anything_is_sent(shell: Any, queue: str) -> None:
    for words in (("{",), ("1", "--tasks", "no_such_module")):
        assert shell("job", "call", queue, *words).returncode in (2, 3), words
    assert shell("job", "call", "forecast", '{"asets": [1]}').returncode == 2
    assert shell("job", "call", f"{queue}-nowhere", "1").returncode == 3
    assert shell.json("queue", "show", queue)[0]["next"] == 0


def test_draining_waits_and_prints_every_result_and_exits_1_if_one_failed(shell: Any, worked: str) -> None:
    shell.ok("job", "submit", worked, "-", stdin='{"x": 1}\n{"x": 2}\n')
    assert shell.ok("job", "drain", worked, "--timeout", "30s") == "1\n4\n"
    shell.ok("job", "submit", worked, '{"y": 3}')
    done = shell("job", "drain", worked, "--timeout", "30s")
    assert (done.returncode, done.stdout) == (1, "1\n4\nnull\n")
    assert done.stderr.startswith(f"error: job {worked}/2 failed")
    done = shell("job", "drain", worked, "--json")
    assert done.returncode == 1
    good, _, bad = map(json.loads, done.stdout.splitlines())
    assert good == {"id": f"{worked}/0", "status": "done", "result": 1}
    assert (bad["id"], bad["status"]) == (f"{worked}/2", "dead")
    assert "KeyError: no x" in bad["error"]


def test_draining_what_nobody_works_on_is_6_and_what_is_not_there_3(shell: Any, queue: str) -> None:
    assert shell.ok("job", "drain", queue) == ""
    shell.ok("job", "submit", queue, "1")
    assert shell("job", "drain", queue, "--timeout", "300ms").returncode == 6
    assert shell("job", "drain", f"{queue}-nowhere").returncode == 3


def test_results_of_many_come_in_the_order_of_submission(shell: Any, worked: str) -> None:
    lines = "".join(f'{{"x": {number}}}\n' for number in range(50))
    rows = shell.json("job", "submit", worked, "-", "--wait", stdin=lines)
    assert [row["result"] for row in rows] == [number**2 for number in range(50)]
    assert [row["id"] for row in rows] == [f"{worked}/{number}" for number in range(50)]


def test_a_failed_job_exits_1_with_its_traceback(shell: Any, worked: str) -> None:
    assert shell("job", "submit", worked, '{"y": 7}', "--wait").returncode == 1
    done = shell("job", "result", f"{worked}/0")
    assert done.returncode == 1
    assert "the trace of it" in done.stderr
    assert "on rank 1: KeyError: no x" in done.stderr
    error = json.loads(shell("job", "result", f"{worked}/0", "--json").stderr)["error"]
    assert (error["code"], error["rank"], error["traceback"]) == ("JobFailed", 1, "the trace of it")
    (row,) = shell.json("job", "show", f"{worked}/0")
    assert (row["id"], row["status"], row["reason"]) == (f"{worked}/0", "dead", "no x")


def test_wait_tells_how_each_ended_and_exits_1_if_one_failed(shell: Any, worked: str) -> None:
    ids = shell.ok("job", "submit", worked, "-", stdin='{"x": 1}\n{"y": 1}\n').split()
    assert ids == [f"{worked}/0", f"{worked}/1"]
    done = shell("job", "wait", *ids, "--json", "--timeout", "30s")
    assert done.returncode == 1
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["done", "dead"]
    assert shell("job", "wait", ids[0]).returncode == 0


def test_a_job_nobody_works_on_is_queued_and_waiting_for_it_is_6(shell: Any, queue: str) -> None:
    assert shell.json("job", "submit", queue, '{"x": 1}') == [{"id": f"{queue}/0"}]
    assert shell.json("job", "show", f"{queue}/0")[0]["status"] == "queued"
    assert shell("job", "wait", f"{queue}/0", "--timeout", "200ms").returncode == 6
    assert shell("job", "result", f"{queue}/0", "--wait", "50ms").returncode == 6


def test_list_is_filtered_by_status(shell: Any, queue: str) -> None:
    shell.ok("job", "submit", queue, "-", stdin='{"x": 1}\n{"x": 2}\n{"x": 3}\n')
    assert shell.json("job", "cancel", f"{queue}/1") == [{"id": f"{queue}/1", "status": "cancelled"}]
    assert [row["id"] for row in shell.json("job", "list", queue, "--status", "queued")] == [f"{queue}/0", f"{queue}/2"]
    assert len(shell.ok("job", "list", queue, "--limit", "2").splitlines()) == 2
    assert shell.json("job", "show", f"{queue}/1")[0]["status"] == "cancelled"


def test_a_cancelled_job_cannot_be_cancelled_again(shell: Any, queue: str) -> None:
    shell.ok("job", "submit", queue, "1")
    shell.ok("job", "cancel", f"{queue}/0")
    assert shell("job", "cancel", f"{queue}/0").returncode == 2


def test_a_dead_job_is_retried_as_a_new_one(shell: Any, worked: str) -> None:
    shell("job", "submit", worked, '{"y": 7}', "--wait")
    assert shell.json("job", "retry", f"{worked}/0") == [{"id": f"{worked}/0", "retried_as": f"{worked}/1"}]
    assert shell.json("job", "show", f"{worked}/0")[0]["retried_as"] == f"{worked}/1"
    assert f"it is tried again as {worked}/1" in shell.ok("job", "explain", f"{worked}/0")
    assert f"retried_as\t{worked}/1" in shell.ok("job", "show", f"{worked}/0")
    assert shell.json("job", "list", worked, "--status", "dead")[0]["retried_as"] == f"{worked}/1"


@pytest.mark.parametrize("verb", ["show", "wait", "result", "cancel", "retry", "explain", "log"])
def test_a_job_that_never_was_is_3(shell: Any, queue: str, verb: str) -> None:
    assert shell("job", verb, f"{queue}/77").returncode == 3


@pytest.mark.parametrize("verb", ["show", "wait", "result", "cancel", "retry"])
def test_an_id_that_is_none_is_usage(shell: Any, verb: str) -> None:
    assert shell("job", verb, "seventyseven").returncode == 2


def test_arguments_of_the_forecast_are_checked_before_anything_is_sent(shell: Any) -> None:
    shell("queue", "create", "forecast")
    for arguments in ('{"assets": []}', '{"assets": [0], "window": 1}', '{"assests": [0]}', '{"assets": [100000]}'):
        done = shell("job", "submit", "forecast", arguments)
        assert done.returncode == 2, arguments
    assert shell.json("queue", "show", "forecast")[0]["next"] == 0


def test_a_tasks_module_without_a_task_for_the_queue_is_refused(shell: Any, queue: str) -> None:
    done = shell("job", "submit", queue, "{}", "--tasks", "penstock.compute.forecast")
    assert done.returncode == 2
    assert queue in done.stderr


def test_the_list_of_jobs_says_what_the_dead_ones_died_of(shell: Any, worked: str) -> None:
    shell.ok("job", "submit", worked, "-", stdin='{"y": 7}\n{"x": 2}\n')
    shell("job", "wait", f"{worked}/0-1", "--timeout", "30s")
    assert [row["error"] for row in shell.json("job", "list", worked)] == ["KeyError: no x", None]
    assert shell.ok("job", "list", worked, "--status", "dead").split("\t")[-1] == "KeyError: no x\n"
    assert shell.json("job", "list", worked, "--status", "dead", "--local")[0]["error"] == "KeyError: no x"


def test_a_task_may_be_named_where_its_module_is_not_at_hand(shell: Any, queue: str) -> None:
    shell.ok("job", "submit", queue, '{"x": 1}', "--task", "square")
    shell("job", "call", queue, '{"x": 1}', "--task", "square", "--timeout", "1s", "--keep")
    assert [shell.json("job", "show", f"{queue}/{n}")[0]["task"] for n in (0, 1)] == ["square", "square"]


def test_a_task_that_its_module_does_not_have_is_refused_with_those_it_has(shell: Any) -> None:
    done = shell("job", "submit", "forecast", '{"assets": [1]}', "--task", "forcast")
    assert done.returncode == 2
    assert "has no task 'forcast' for the queue 'forecast'" in done.stderr
    assert "the queue forecast has the tasks forecast" in done.stderr


def test_each_job_of_an_array_waits_for_its_own(shell: Any, queue: str) -> None:
    shell.ok("job", "submit", queue, "--array", "0-2", "{}")
    assert shell("job", "submit", queue, "--array", "0-2", "{}", "--after-each", f"{queue}/0-1").returncode == 2
    shell.ok("job", "submit", queue, "--array", "0-2", "{}", "--after-each", f"{queue}/0-2")
    assert [shell.json("job", "show", f"{queue}/{n}")[0]["parents"] for n in (3, 5)] == [[f"{queue}/0"], [f"{queue}/2"]]


def test_a_slip_in_the_number_of_an_array_is_refused_at_once(shell: Any, queue: str) -> None:
    shell.ok("job", "submit", queue, "--array", "1-20")
    slip = f"{queue}/0-99999999999999"
    for words in (("wait",), ("show",), ("result",), ("cancel",), ("retry",)):
        done = shell("job", *words, slip)
        assert done.returncode == 3, words
        assert f"job {queue}/99999999999999 does not exist" in done.stderr
    assert shell.json("job", "show", f"{queue}/0-19")[0]["statuses"] == {"queued": 20}
    assert shell("job", "show", f"{queue}/0-9999999999999999999").returncode == 2


def test_a_job_is_shown_with_its_history(shell: Any, worked: str) -> None:
    shell("job", "submit", worked, '{"y": 7}', "--wait")
    lines = [line.split("\t") for line in shell.ok("job", "show", f"{worked}/0").splitlines()]
    assert ["status", "dead"] in lines
    assert ["error", "KeyError: no x"] in lines
    assert [line[2] for line in lines if line[0] == "history"][:2] == ["submitted", "leased"]
    assert ["arguments", '{"y": 7}'] in lines
    (row,) = shell.json("job", "show", f"{worked}/0")
    assert row["arguments"] == {"y": 7}
    assert row["history"][-1]["what"] in ("dead", "rejected")


def test_a_job_has_headers_as_a_message_does(shell: Any, queue: str) -> None:
    id = shell.ok("job", "submit", queue, "1", "--header", "from=ana", "--header", "a=1=2").strip()
    assert shell.json("job", "show", id)[0]["headers"] == {"from": "ana", "a": "1=2"}


def test_a_job_that_does_not_run_is_explained(shell: Any, queue: str) -> None:
    shell.ok("job", "submit", queue, "1")
    shell.ok("queue", "pause", queue)
    assert "paused" in [row["code"] for row in shell.json("job", "explain", f"{queue}/0")]
    assert shell.ok("job", "explain", f"{queue}/0").startswith("paused\t")


def test_a_job_that_cannot_be_cancelled_or_retried_holds_up_no_others(shell: Any, worked: str) -> None:
    name = f"{worked}-waits"
    shell.ok("queue", "create", name)
    shell.ok("job", "submit", name, "{}", "--array", "1-3")
    shell.ok("job", "cancel", f"{name}/0")
    done = shell("job", "cancel", f"{name}/0", f"{name}/1", f"{name}/77", f"{name}/2", "--json")
    assert (done.returncode, len(done.stdout.splitlines()), len(done.stderr.splitlines())) == (2, 2, 2)
    assert shell.json("job", "show", f"{name}/0-2")[0]["statuses"] == {"cancelled": 3}
    shell("job", "submit", worked, "-", "--wait", stdin='{"y": 1}\n{"x": 1}\n{"y": 2}\n')
    done = shell("job", "retry", *[f"{worked}/{number}" for number in (77, 0, 1, 2)])
    assert (done.returncode, done.stdout) == (3, f"{worked}/0\t{worked}/3\n{worked}/2\t{worked}/4\n")


def test_several_jobs_are_cancelled_by_one_id(shell: Any, queue: str) -> None:
    shell.ok("job", "submit", queue, "{}", "--array", "1-5")
    assert shell.json("job", "cancel", f"{queue}/1-3") == [{"id": f"{queue}/1-3", "status": "cancelled", "jobs": 3}]
    assert shell.json("job", "show", f"{queue}/0-4")[0]["statuses"] == {"queued": 2, "cancelled": 3}


def test_a_dead_letter_says_why_it_died_to_who_peeks_or_pulls(shell: Any, worked: str) -> None:
    shell("job", "submit", worked, '{"y": "\u00e4"}', "--wait")
    dead = f"{worked}.dead"
    for row in (*shell.json("queue", "peek", dead), *shell.json("pull", dead)):
        assert row["headers"]["penstock-queue"] == worked
        assert row["headers"]["penstock-reason"] == "no x"
        assert row["key"] is None
    assert re.fullmatch(r"0\t-\t\(\d+ bytes\)\n", shell.ok("queue", "peek", dead))


def test_all_dead_jobs_of_a_queue_are_retried(shell: Any, worked: str) -> None:
    shell("job", "submit", worked, "-", "--wait", stdin='{"y": 1}\n{"x": 1}\n{"y": 2}\n')
    (row,) = shell.json("job", "retry", "--dead", "--queue", worked)
    assert row == {"queue": worked, "retried": 2, "retried_as": f"{worked}/3-4"}


def test_what_waits_is_moved_to_another_queue(shell: Any, queue: str, name: str) -> None:
    shell.ok("queue", "create", f"{name}.b")
    shell.ok("push", queue, "-", stdin="a\nb\nc\n")
    assert shell.json("queue", "move", queue, f"{name}.b", "--limit", "2")[0]["moved"] == 2
    assert shell.ok("pull", f"{name}.b", "-n", "2", "--ack") == "a\nb\n"
    assert shell("queue", "move", queue, "nowhere").returncode == 3
