"""What a pool says to the daemon of the jobs it has in hand."""

from __future__ import annotations

from penstock.compute.source import BrokerSource
from penstock.peers.errors import TooLarge
from penstock.peers.values import pack
from penstock.testing import Broker


def test_a_result_that_the_daemon_takes_no_more_fails_its_job_and_no_other() -> None:
    with Broker() as broker:
        client = broker.connect()
        client.create_queue("work", max_failures=1)
        jobs = client.submit_many("work", [{}] * 3)
        source = BrokerSource(client, "work", "30s")
        messages = source.take(3, 5.0)
        client._connection.session.max_message = 100  # it was started again with another limit
        source.complete(messages, [pack(1), pack("x" * 200), pack(3)])
        assert source.confirm(5.0) + source.confirm(5.0) == 2
        jobs.wait(timeout=10)
        assert [outcome.status for outcome in jobs.outcomes()] == ["done", "dead", "done"]
        error = jobs[1].describe().error
        assert error is not None
        assert error["type"] == "TooLarge"
        source.close()


def test_an_error_of_any_length_settles_a_message() -> None:
    with Broker() as broker:
        client = broker.connect()
        client.create_queue("work", max_failures=1)
        job = client.submit("work", {})
        with client.consumer("work") as consumer:
            message = consumer.receive(timeout=5)
            assert message is not None
            message.nack(error=TooLarge("x" * 2**26)).wait()
        error = job.describe().error
        assert error is not None
        assert "bytes left out" in error["message"]
        assert "bytes left out" in error["traceback"]
