"""The rounds of a mini-batch, compiled: what :mod:`fdtrain.compiled` lays out as numbers is done here, node by node.

A step is a round; its operations are rows of ``ops``: (what, layer, wave, column, width, start). Columns are places in a
node's row of ``store``, the rows of all seen nodes. Arrays of a node and wave lie in one block of ``work``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fdtrain.kernels.arithmetic import (
    activate,
    add_products,
    compiled,
    neighbour_sum,
    times,
    times_transposed,
)
from fdtrain.kernels.calls import start_all, test_all

FEATURES, BACKWARD, SLICE = range(3)  # what an operation is about
OP, LAYER, WAVE, COLUMN, WIDTH, START = range(6)  # columns of `ops`
FIRST, COUNT, ROW, REQUESTS, REQUEST_COUNT = range(5)  # columns of `steps`
G_IN, G_OUT, THETA, BLOCK, ACTIVATION = range(5)  # columns of `layers`
NODES, SEEN, BATCH, FULL_WAVE, BLOCK_SIZE, PARITIES, SENDER, TRAINS, RECORDS, BY_SAMPLE = range(10)  # places in `sizes`
DONE, WAITS, FAILED = range(3)  # how a run of rounds ended

Arrays = Any


class Pack(NamedTuple):
    """All that the loops work on. Types and shapes are what :class:`fdtrain.compiled.CompiledPass` makes."""

    sizes: Arrays  # int64 [10]
    layers: Arrays  # int64 [L, 5]
    slopes: Arrays  # [L] negative ones, of leaky_relu
    steps: Arrays  # int64 [rounds, 5]
    ops: Arrays  # int64 [operations, 6]
    store: Arrays  # rows of all seen nodes, flat
    outbox: Arrays  # packed rows, flat
    packed: Arrays  # int64: which own rows are packed
    indptr: Arrays  # int64 [n + 1] of the sums
    columns: Arrays  # int64
    forward: Arrays  # weights of the sums
    backward: Arrays
    theta: Arrays  # [n, p]
    grad: Arrays  # [n, p]
    work: Arrays  # flat: [parities, n, block size · w]
    scratch: Arrays  # [3, largest · w]
    x: Arrays  # [n, N, g_0]
    y: Arrays  # [n, N, g_L]
    order: Arrays  # int64 [B]: which of the N samples
    loss: Arrays  # [n]
    output: Arrays  # [n, B, g_L], or empty
    incoming: Arrays  # [seen, travelling]


class Link(NamedTuple):
    """The persistent requests of all rounds, and how to start and test them."""

    startall: int  # addresses
    testall: int
    requests: Arrays  # uint8, handles
    handle: int  # bytes of one
    flag: Arrays  # int32 [1]
    statuses: Arrays  # uint8


@compiled
def _wave_size(pack, wave):  # type: ignore[no-untyped-def]
    full = pack.sizes[FULL_WAVE]
    return min(full, pack.sizes[BATCH] - wave * full)


@compiled
def _block(pack, wave, node):  # type: ignore[no-untyped-def]
    """Where the arrays of a node and wave begin."""
    size = pack.sizes[BLOCK_SIZE] * pack.sizes[FULL_WAVE]
    return ((wave % pack.sizes[PARITIES]) * pack.sizes[NODES] + node) * size


@compiled
def _left_width(pack, layer):  # type: ignore[no-untyped-def]
    g_in = pack.layers[layer, G_IN]
    return g_in if pack.sizes[SENDER] else 2 * g_in


@compiled
def _transpose(source, rows, columns, out):  # type: ignore[no-untyped-def]
    """out [columns, rows] ← `source` [rows, columns], both flat."""
    for i in range(rows):
        for j in range(columns):
            out[j * rows + i] = source[i * columns + j]


@compiled
def _say(pack, values, g, w, message):  # type: ignore[no-untyped-def]
    """A message of `values` [g, w]: as they lie, or a sample after the other."""
    if pack.sizes[BY_SAMPLE]:
        _transpose(values, g, w, message)
    else:
        for k in range(g * w):
            message[k] = values[k]


@compiled
def _hear(pack, node, row, column, g, w, weights, total):  # type: ignore[no-untyped-def]
    """total [g, w] ← the sum over the messages of a node's neighbours, and its own."""
    begin, end, size = pack.indptr[node], pack.indptr[node + 1], g * w
    if pack.sizes[BY_SAMPLE]:
        by_sample = pack.scratch[2]
        neighbour_sum(pack.store, row, column, size, begin, end, pack.columns, weights, by_sample)
        _transpose(by_sample, w, g, total)
    else:
        neighbour_sum(pack.store, row, column, size, begin, end, pack.columns, weights, total)


@compiled
def _take_samples(pack, node, wave, w, out):  # type: ignore[no-untyped-def]
    """out [g_0, w] ← the wave's samples."""
    first = wave * pack.sizes[FULL_WAVE]
    for s in range(w):
        sample = pack.x[node, pack.order[first + s]]
        for k in range(len(sample)):
            out[k * w + s] = sample[k]


@compiled
def _send_features(pack, op, row):  # type: ignore[no-untyped-def]
    layer, wave, column = op[LAYER], op[WAVE], op[COLUMN]
    w, g_in, g_out = _wave_size(pack, wave), pack.layers[layer, G_IN], pack.layers[layer, G_OUT]
    sender, at, place = pack.sizes[SENDER], pack.layers[layer, THETA], pack.layers[layer, BLOCK]
    for node in range(pack.sizes[NODES]):
        begin = _block(pack, wave, node) + place * w
        x = pack.work[begin : begin + g_in * w]
        if layer == 0:
            _take_samples(pack, node, wave, w, x)
        message = pack.store[node * row + column :]
        if sender:
            theta = pack.theta[node, at + g_in * g_out : at + 2 * g_in * g_out]
            times(x, g_in, w, theta, g_out, pack.scratch[0], True)
            _say(pack, pack.scratch[0], g_out, w, message)
        else:
            _say(pack, x, g_in, w, message)


@compiled
def _send_backward(pack, op, row):  # type: ignore[no-untyped-def]
    layer, wave, column = op[LAYER], op[WAVE], op[COLUMN]
    w, g_in, g_out = _wave_size(pack, wave), pack.layers[layer, G_IN], pack.layers[layer, G_OUT]
    sender, at = pack.sizes[SENDER], pack.layers[layer, THETA]
    place = pack.layers[layer, BLOCK] + _left_width(pack, layer)
    for node in range(pack.sizes[NODES]):
        begin = _block(pack, wave, node) + place * w
        q = pack.work[begin : begin + g_out * w]
        message = pack.store[node * row + column :]
        if sender:
            _say(pack, q, g_out, w, message)
        else:
            theta = pack.theta[node, at + g_in * g_out : at + 2 * g_in * g_out]
            times_transposed(q, g_out, w, theta, g_in, pack.scratch[0], True)
            _say(pack, pack.scratch[0], g_in, w, message)


@compiled
def _send_slice(pack, op, row):  # type: ignore[no-untyped-def]
    start, width, column = op[START], op[WIDTH], op[COLUMN]
    for node in range(pack.sizes[NODES]):
        begin = node * row + column
        pack.store[begin : begin + width] = pack.incoming[node, start : start + width]


@compiled
def _measure(pack, node, wave, w, top):  # type: ignore[no-untyped-def]
    """Add Σ (y − ŷ)² to the node's loss, and turn `top` [g_L, w] from ŷ into ∂ℓ/∂ŷ."""
    first, g_out = wave * pack.sizes[FULL_WAVE], pack.y.shape[2]
    total = pack.loss[node]
    for s in range(w):
        label = pack.y[node, pack.order[first + s]]
        for j in range(g_out):
            if pack.sizes[RECORDS]:
                pack.output[node, first + s, j] = top[j * w + s]
            difference = top[j * w + s] - label[j]
            total += difference * difference
            top[j * w + s] = 2.0 * difference
    pack.loss[node] = total


@compiled
def _add_gradient(pack, layer, node, w, left, q):  # type: ignore[no-untyped-def]
    """Of a layer in receiver form: ∂Θ0 over ∂Θ1 += [x | a] qᵀ."""
    at, g_out, width = pack.layers[layer, THETA], pack.layers[layer, G_OUT], 2 * pack.layers[layer, G_IN]
    add_products(left, width, q, g_out, w, pack.grad[node, at : at + width * g_out])


@compiled
def _receive_features(pack, op, row):  # type: ignore[no-untyped-def]
    layer, wave, column = op[LAYER], op[WAVE], op[COLUMN]
    w, g_in, g_out = _wave_size(pack, wave), pack.layers[layer, G_IN], pack.layers[layer, G_OUT]
    sender, at, place = pack.sizes[SENDER], pack.layers[layer, THETA], pack.layers[layer, BLOCK]
    last, left_width = layer == len(pack.layers) - 1, _left_width(pack, layer)
    for node in range(pack.sizes[NODES]):
        block = _block(pack, wave, node)
        begin = block + place * w
        left, h = (
            pack.work[begin : begin + left_width * w],
            pack.work[begin + left_width * w : begin + (left_width + g_out) * w],
        )
        total = pack.scratch[0] if sender else left[g_in * w :]
        _hear(pack, node, row, column, g_out if sender else g_in, w, pack.forward, total)
        theta = pack.theta[node, at : at + left_width * g_out]
        times(left, left_width, w, theta, g_out, h, True)
        if sender:
            for k in range(g_out * w):
                h[k] += total[k]
        y = pack.scratch[1][: g_out * w]
        if not last:
            above = block + pack.layers[layer + 1, BLOCK] * w
            y = pack.work[above : above + g_out * w]
        activate(pack.layers[layer, ACTIVATION], pack.slopes[layer], h, g_out * w, y, pack.scratch[2])
        if not last:
            continue
        _measure(pack, node, wave, w, y)
        if pack.sizes[TRAINS]:
            for k in range(g_out * w):
                h[k] *= y[k]
            if not sender:
                _add_gradient(pack, layer, node, w, left, h)


@compiled
def _receive_backward(pack, op, row):  # type: ignore[no-untyped-def]
    layer, wave, column = op[LAYER], op[WAVE], op[COLUMN]
    w, g_in, g_out = _wave_size(pack, wave), pack.layers[layer, G_IN], pack.layers[layer, G_OUT]
    sender, at, place = pack.sizes[SENDER], pack.layers[layer, THETA], pack.layers[layer, BLOCK]
    left_width, half = _left_width(pack, layer), g_in * g_out
    total = pack.scratch[0]
    for node in range(pack.sizes[NODES]):
        block = _block(pack, wave, node)
        begin = block + place * w
        _hear(pack, node, row, column, g_out if sender else g_in, w, pack.backward, total)
        q = pack.work[begin + left_width * w : begin + (left_width + g_out) * w]
        if sender:
            x = pack.work[begin : begin + g_in * w]
            add_products(x, g_in, q, g_out, w, pack.grad[node, at : at + half])
            add_products(x, g_in, total, g_out, w, pack.grad[node, at + half : at + 2 * half])
        if layer == 0:
            continue
        z = pack.scratch[1]
        times_transposed(q, g_out, w, pack.theta[node, at : at + half], g_in, z, True)
        if sender:
            times_transposed(total, g_out, w, pack.theta[node, at + half : at + 2 * half], g_in, z, False)
        else:
            for k in range(g_in * w):
                z[k] += total[k]
        below, g_below = block + pack.layers[layer - 1, BLOCK] * w, pack.layers[layer - 1, G_OUT]
        width_below = _left_width(pack, layer - 1)
        left = pack.work[below : below + width_below * w]
        slope = pack.work[below + width_below * w : below + (width_below + g_below) * w]
        for k in range(g_below * w):
            slope[k] *= z[k]
        if not sender:
            _add_gradient(pack, layer - 1, node, w, left, slope)


@compiled
def _receive_slice(pack, op, row):  # type: ignore[no-untyped-def]
    start, width, column = op[START], op[WIDTH], op[COLUMN]
    for ghost in range(pack.sizes[NODES], pack.sizes[SEEN]):
        begin = ghost * row + column
        pack.incoming[ghost, start : start + width] = pack.store[begin : begin + width]


@compiled
def produce(pack, step):  # type: ignore[no-untyped-def]
    """Fill the own rows of round `step`."""
    first, count, row = pack.steps[step, FIRST], pack.steps[step, COUNT], pack.steps[step, ROW]
    for k in range(first, first + count):
        op = pack.ops[k]
        if op[OP] == FEATURES:
            _send_features(pack, op, row)
        elif op[OP] == BACKWARD:
            _send_backward(pack, op, row)
        else:
            _send_slice(pack, op, row)


@compiled
def consume(pack, step):  # type: ignore[no-untyped-def]
    """Use the rows of round `step`."""
    first, count, row = pack.steps[step, FIRST], pack.steps[step, COUNT], pack.steps[step, ROW]
    for k in range(first, first + count):
        op = pack.ops[k]
        if op[OP] == FEATURES:
            _receive_features(pack, op, row)
        elif op[OP] == BACKWARD:
            _receive_backward(pack, op, row)
        else:
            _receive_slice(pack, op, row)


@compiled
def _put_in_outbox(pack, row):  # type: ignore[no-untyped-def]
    for k in range(len(pack.packed)):
        begin = pack.packed[k] * row
        pack.outbox[k * row : k * row + row] = pack.store[begin : begin + row]


@compiled
def rounds(pack, link, step, stop, started, patience, idle):  # type: ignore[no-untyped-def]
    """Go through the rounds `step` … `stop` − 1, messages included.

    Args:
        started: whether the messages of round `step` are under way already.
        patience: how often to look for messages before the caller is to look at its clock.
        idle: exchange only, and compute nothing.

    Returns:
        How it ended, DONE, WAITS or FAILED, and the round at which it is; of FAILED, the error of MPI.
    """
    while step < stop:
        row, count = pack.steps[step, ROW], pack.steps[step, REQUEST_COUNT]
        if not started and not idle:
            produce(pack, step)
        if count > 0:
            handles = link.requests[pack.steps[step, REQUESTS] * link.handle :].ctypes.data
            if not started:
                _put_in_outbox(pack, row)
                code = start_all(link.startall, count, handles)
                if code != 0:
                    return FAILED, step, code
            polls = 0
            while True:
                code = test_all(
                    link.testall, count, handles, link.flag.ctypes.data, link.statuses.ctypes.data
                )
                if code != 0:
                    return FAILED, step, code
                if link.flag[0] != 0:
                    break
                polls += 1
                if polls >= patience:
                    return WAITS, step, 0
        started = False
        if not idle:
            consume(pack, step)
        step += 1
    return DONE, step, 0


NO_LINK = Link(0, 0, np.zeros(0, np.uint8), 1, np.zeros(1, np.int32), np.zeros(0, np.uint8))
