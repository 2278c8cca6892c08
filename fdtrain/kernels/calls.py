"""Calls of C functions by their address, from compiled code: those of the MPI library that runs anyway."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic  # type: ignore[untyped-decorator]
def start_all(typing_context: Any, address: Any, count: Any, requests: Any) -> Any:
    """``MPI_Startall(count, requests)`` at `address`; returns its error code. Pointers are integers."""
    signature = types.int32(types.int64, types.int64, types.int64)

    def generate(context: Any, builder: Any, sign: Any, arguments: Any) -> Any:
        function, number, handles = arguments
        return _call(builder, function, [builder.trunc(number, ir.IntType(32)), handles])

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def test_all(typing_context: Any, address: Any, count: Any, requests: Any, flag: Any, statuses: Any) -> Any:
    """``MPI_Testall(count, requests, flag, statuses)`` at `address`; returns its error code. Pointers are integers."""
    signature = types.int32(types.int64, types.int64, types.int64, types.int64, types.int64)

    def generate(context: Any, builder: Any, sign: Any, arguments: Any) -> Any:
        function, number, *pointers = arguments
        return _call(builder, function, [builder.trunc(number, ir.IntType(32)), *pointers])

    return signature, generate


def _call(builder: Any, address: Any, arguments: list[Any]) -> Any:
    """A call of a C function that takes an int and pointers, and returns an int."""
    first, *pointers = arguments
    values = [first, *(builder.inttoptr(pointer, cgutils.voidptr_t) for pointer in pointers)]
    kind = ir.FunctionType(ir.IntType(32), [value.type for value in values])
    return builder.call(builder.inttoptr(address, kind.as_pointer()), values)
