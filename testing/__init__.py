"""For the test suites of those who use Penstock: a broker in this process, with a clock that tests turn.

    with Broker() as broker:
        client = broker.connect()
        ...
        broker.advance("10s")

docs/testing.md tells the rest; `penstock.testing.fixtures` has it as pytest fixtures.
"""

from .broker import Broker
from .comm import LoneComm
from .tasks import Ran

__all__ = ["Broker", "LoneComm", "Ran"]
