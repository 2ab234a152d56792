"""Errors travel with all that they say."""

import pytest

from penstock.peers.errors import AlreadyExists, NotPrimary, PenstockError, QueueFull, from_body, to_body


@pytest.mark.parametrize(
    "error",
    [
        QueueFull("full", "wait"),
        AlreadyExists("the name is taken"),
        AlreadyExists("the id 'a' is taken", "take another", job="work/7"),
        NotPrimary("not here", endpoint="tcp://b:1"),
    ],
)
def test_an_error_comes_back_as_it_was(error: PenstockError) -> None:
    back = from_body(error.code, to_body(error))
    assert (type(back), vars(back)) == (type(error), vars(error))
