"""Arguments and results as bytes."""

import subprocess
import sys
from typing import Any

import msgpack
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.peers.errors import InvalidArgument, ProtocolError
from penstock.peers.values import ARRAY, pack, unpack

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(plain)
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    assert unpack(pack(value)) == value


@pytest.mark.parametrize(
    "array",
    [
        numpy.arange(5),
        numpy.arange(12.0).reshape(3, 4),
        numpy.arange(12).reshape(3, 4).T,
        numpy.zeros((3, 0)),
        numpy.array(3.5),
        numpy.array([True, False]),
        numpy.array(["a", "long"]),
        numpy.array(["2020-01-01"], "M8[D]"),
        numpy.zeros((2, 3), ">f4"),
        numpy.arange(100_000),
    ],
    ids=lambda array: f"{array.dtype.str}-{array.shape}",
)
def test_arrays_come_back_as_they_were(array: numpy.ndarray[Any, Any]) -> None:
    back = unpack(pack({"x": array}))["x"]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert (back == array).all()


def test_numpy_scalars_become_numbers() -> None:
    assert unpack(pack([numpy.float32(2), numpy.int64(3), numpy.bool_(True)])) == [2.0, 3, True]


def test_an_array_is_a_view_of_the_bytes_it_came_in() -> None:
    assert unpack(pack(numpy.arange(3))).base is not None


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "object"),
        ({1, 2}, "set"),
        (2**70, "int"),
        (numpy.array([object()]), "dtype object"),
        (numpy.zeros(2, [("x", "f8")]), "dtype"),
        ("\ud800", "surrogates"),
    ],
)
def test_what_cannot_travel_is_named(value: Any, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        pack([value])


def test_a_value_in_itself_cannot_travel() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidArgument):
        pack(endless)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91",
        msgpack.packb(msgpack.ExtType(5, b"x")),
        msgpack.packb(msgpack.ExtType(ARRAY, b"")),
        msgpack.packb(msgpack.ExtType(ARRAY, msgpack.packb(["<f8", [2], b"short"]))),
        msgpack.packb(msgpack.ExtType(ARRAY, msgpack.packb(["<f8", [3], bytes(16)]))),
        msgpack.packb(msgpack.ExtType(ARRAY, msgpack.packb(["|O", [1], bytes(8)]))),
        msgpack.packb(msgpack.ExtType(ARRAY, msgpack.packb(["nonsense", [1], bytes(8)]))),
    ],
)
def test_bytes_that_are_no_value_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack(data)


@pytest.mark.parametrize("module", ["numpy", "mpi4py", "lmdb"])
def test_importing_penstock_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, penstock; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd="/").returncode == 0
