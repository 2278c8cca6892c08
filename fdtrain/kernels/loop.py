"""The rounds of a mini-batch, compiled: what :mod:`fdtrain.compiled` lays out as numbers is done here, node by node.

A step is a round; its operations are rows of ``ops``: (what, layer, wave, column, width, start). Columns are places in
a node's row of ``store``, the rows of all seen nodes. What is kept of a wave lies in arrays of ``work``, one after the
other: of every layer x, but for the first, whose x are samples; a in receiver form, but for the last layer, whose
gradient is made at once; and σ'(h), which then becomes q.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fdtrain.kernels.arithmetic import (
    activate,
    add_products,
    neighbour_sum,
    times,
    times_transposed,
)
from fdtrain.kernels.calls import start_all, test_all
from fdtrain.kernels.compiling import compiled

FEATURES, BACKWARD, SLICE = range(3)  # what an operation is about
OP, LAYER, WAVE, COLUMN, WIDTH, START = range(6)  # columns of `ops`
FIRST, COUNT, ROW, REQUESTS, REQUEST_COUNT = range(5)  # columns of `steps`
G_IN, G_OUT, THETA, X, A, Q, ACTIVATION = range(7)  # columns of `layers`; −1: not kept
# Places in `sizes`
NODES, SEEN, BATCH, FULL_WAVE, KEPT, PARITIES, SENDER, TRAINS, RECORDS, BY_SAMPLE, OWN_THETA = range(11)
DONE, WAITS, FAILED = range(3)  # how a run of rounds ended

Arrays = Any


class Pack(NamedTuple):
    """All that the loops work on. Types and shapes are what :class:`fdtrain.compiled.CompiledPass` makes."""

    sizes: Arrays  # int64 [11]
    layers: Arrays  # int64 [L, 7]
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
    theta: Arrays  # [n, p], or [1, p] of all nodes
    grad: Arrays  # [n, p]
    work: Arrays  # flat: of each parity, arrays [n, g, w]
    scratch: Arrays  # [4, largest · w]
    wide: Arrays  # float64 [3, largest · w]
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


@compiled()
def _wave_size(sizes, wave):  # type: ignore[no-untyped-def]
    return min(sizes[FULL_WAVE], sizes[BATCH] - wave * sizes[FULL_WAVE])


@compiled()
def _kept(sizes, wave, place):  # type: ignore[no-untyped-def]
    """Where in ``work`` an array of a wave begins; `place` is its first number in the table of layers."""
    full = sizes[FULL_WAVE]
    return ((wave % sizes[PARITIES]) * sizes[KEPT] + place) * sizes[NODES] * full


@compiled()
def _transpose(source, rows, columns, out):  # type: ignore[no-untyped-def]
    """out [columns, rows] ← `source` [rows, columns], both flat."""
    for i in range(rows):
        for j in range(columns):
            out[j * rows + i] = source[i * columns + j]


@compiled()
def _say(values, g, w, by_sample, message):  # type: ignore[no-untyped-def]
    """A message of `values` [g, w]: as they lie, or a sample after the other."""
    if by_sample:
        _transpose(values, g, w, message)
    else:
        for k in range(g * w):
            message[k] = values[k]


@compiled()
def _hear(  # type: ignore[no-untyped-def]
    store, row, column, g, w, begin, end, columns, weights, by_sample, scratch, total
):
    """total [g, w] ← the sum over the messages of a node's neighbours, and its own."""
    if by_sample:
        neighbour_sum(store, row, column, g * w, begin, end, columns, weights, scratch)
        _transpose(scratch, w, g, total)
    else:
        neighbour_sum(store, row, column, g * w, begin, end, columns, weights, total)


@compiled()
def _take_samples(samples, order, first, w, out):  # type: ignore[no-untyped-def]
    """out [g_0, w] ← `samples` [N, g_0], those of the `order` from `first` on."""
    for s in range(w):
        sample = samples[order[first + s]]
        for k in range(len(sample)):
            out[k * w + s] = sample[k]


@compiled()
def _send_features(pack, op, row):  # type: ignore[no-untyped-def]
    layer, wave, column = op[LAYER], op[WAVE], op[COLUMN]
    sizes, layers, work, store, theta = pack.sizes, pack.layers, pack.work, pack.store, pack.theta
    scratch, taken, x, order, by_sample = (
        pack.scratch[0],
        pack.scratch[3],
        pack.x,
        pack.order,
        sizes[BY_SAMPLE],
    )
    w, g_in, g_out = _wave_size(sizes, wave), layers[layer, G_IN], layers[layer, G_OUT]
    sender, second = sizes[SENDER], layers[layer, THETA] + g_in * g_out
    at_x = _kept(sizes, wave, layers[layer, X])
    own = sizes[OWN_THETA]
    for node in range(sizes[NODES]):
        begin = at_x + node * g_in * w
        values = taken if layer == 0 else work[begin : begin + g_in * w]
        if layer == 0:
            _take_samples(x[node], order, wave * sizes[FULL_WAVE], w, values)
        message = store[node * row + column : (node + 1) * row]
        if sender:
            times(values, g_in, w, theta[node * own, second : second + g_in * g_out], g_out, scratch, True)
            _say(scratch, g_out, w, by_sample, message)
        else:
            _say(values, g_in, w, by_sample, message)


@compiled()
def _send_backward(pack, op, row):  # type: ignore[no-untyped-def]
    layer, wave, column = op[LAYER], op[WAVE], op[COLUMN]
    sizes, layers, work, store, theta = pack.sizes, pack.layers, pack.work, pack.store, pack.theta
    scratch, by_sample = pack.scratch[0], sizes[BY_SAMPLE]
    w, g_in, g_out = _wave_size(sizes, wave), layers[layer, G_IN], layers[layer, G_OUT]
    sender, second = sizes[SENDER], layers[layer, THETA] + g_in * g_out
    at_q = _kept(sizes, wave, layers[layer, Q])
    own = sizes[OWN_THETA]
    for node in range(sizes[NODES]):
        begin = at_q + node * g_out * w
        q = work[begin : begin + g_out * w]
        message = store[node * row + column : (node + 1) * row]
        if sender:
            _say(q, g_out, w, by_sample, message)
        else:
            part = theta[node * own, second : second + g_in * g_out]
            times_transposed(q, g_out, w, part, g_in, scratch, True)
            _say(scratch, g_in, w, by_sample, message)


@compiled()
def _send_slice(pack, op, row):  # type: ignore[no-untyped-def]
    start, width, column, store, incoming = op[START], op[WIDTH], op[COLUMN], pack.store, pack.incoming
    for node in range(pack.sizes[NODES]):
        begin = node * row + column
        for k in range(width):
            store[begin + k] = incoming[node, start + k]


@compiled()
def _measure(labels, order, first, w, top):  # type: ignore[no-untyped-def]
    """Σ (y − ŷ)² of a wave; `top` [g_L, w] turns from ŷ into ∂ℓ/∂ŷ."""
    total = 0.0
    for s in range(w):
        label = labels[order[first + s]]
        for j in range(len(label)):
            difference = top[j * w + s] - label[j]
            total += difference * difference
            top[j * w + s] = 2.0 * difference
    return total


@compiled()
def _receive_features(pack, op, row):  # type: ignore[no-untyped-def]
    layer, wave, column = op[LAYER], op[WAVE], op[COLUMN]
    sizes, layers, work, store, theta = pack.sizes, pack.layers, pack.work, pack.store, pack.theta
    heard, made, spare, taken = pack.scratch[0], pack.scratch[1], pack.scratch[2], pack.scratch[3]
    indptr, columns, weights, grad, order = pack.indptr, pack.columns, pack.forward, pack.grad, pack.order
    w, g_in, g_out = _wave_size(sizes, wave), layers[layer, G_IN], layers[layer, G_OUT]
    sender, by_sample, first = sizes[SENDER], sizes[BY_SAMPLE], wave * sizes[FULL_WAVE]
    last, at, half = layer == len(layers) - 1, layers[layer, THETA], g_in * g_out
    kind, slope, g = layers[layer, ACTIVATION], pack.slopes[layer], g_out if sender else g_in
    at_x, at_a = _kept(sizes, wave, layers[layer, X]), _kept(sizes, wave, layers[layer, A])
    at_q = _kept(sizes, wave, layers[layer, Q])
    above = 0 if last else _kept(sizes, wave, layers[layer + 1, X])
    into, out, own = g_in * w, g_out * w, sizes[OWN_THETA]
    is_own_row = not sender and not by_sample  # what the node has sent is x, as it is
    for node in range(sizes[NODES]):
        x = taken if layer == 0 else work[at_x + node * into : at_x + (node + 1) * into]
        if is_own_row:
            x = store[node * row + column : node * row + column + into]
        elif layer == 0:
            _take_samples(pack.x[node], order, first, w, x)
        a = heard if layers[layer, A] < 0 else work[at_a + node * into : at_a + (node + 1) * into]
        h = work[at_q + node * out : at_q + (node + 1) * out]
        _hear(store, row, column, g, w, indptr[node], indptr[node + 1], columns, weights, by_sample, spare, a)
        times(x, g_in, w, theta[node * own, at : at + half], g_out, h, True)
        if sender:
            for k in range(g_out * w):
                h[k] += a[k]
        else:
            times(a, g_in, w, theta[node * own, at + half : at + 2 * half], g_out, h, False)
        y = made if last else work[above + node * out : above + (node + 1) * out]
        activate(kind, slope, h, g_out * w, y, pack.wide)
        if not last:
            continue
        if sizes[RECORDS]:
            _transpose(y, g_out, w, pack.output[node, first : first + w].reshape(-1))
        pack.loss[node] += _measure(pack.y[node], order, first, w, y)
        if sizes[TRAINS]:
            for k in range(g_out * w):
                h[k] *= y[k]
            if not sender:
                add_products(x, g_in, h, g_out, w, grad[node, at : at + half])
                add_products(a, g_in, h, g_out, w, grad[node, at + half : at + 2 * half])


@compiled()
def _receive_backward(pack, op, row):  # type: ignore[no-untyped-def]
    layer, wave, column = op[LAYER], op[WAVE], op[COLUMN]
    sizes, layers, work, store, theta = pack.sizes, pack.layers, pack.work, pack.store, pack.theta
    heard, z, spare, taken = pack.scratch[0], pack.scratch[1], pack.scratch[2], pack.scratch[3]
    indptr, columns, weights, grad, order = pack.indptr, pack.columns, pack.backward, pack.grad, pack.order
    w, g_in, g_out = _wave_size(sizes, wave), layers[layer, G_IN], layers[layer, G_OUT]
    sender, by_sample, first = sizes[SENDER], sizes[BY_SAMPLE], wave * sizes[FULL_WAVE]
    at, half, g = layers[layer, THETA], g_in * g_out, g_out if sender else g_in
    below = max(layer - 1, 0)
    g_below, at_below = layers[below, G_IN], layers[below, THETA]
    half_below = g_below * g_in
    at_x, at_q = _kept(sizes, wave, layers[layer, X]), _kept(sizes, wave, layers[layer, Q])
    x_below, a_below = _kept(sizes, wave, layers[below, X]), _kept(sizes, wave, layers[below, A])
    q_below = _kept(sizes, wave, layers[below, Q])
    into, out, under, own = g_in * w, g_out * w, g_below * w, sizes[OWN_THETA]
    for node in range(sizes[NODES]):
        _hear(
            store,
            row,
            column,
            g,
            w,
            indptr[node],
            indptr[node + 1],
            columns,
            weights,
            by_sample,
            spare,
            heard,
        )
        q = work[at_q + node * out : at_q + (node + 1) * out]
        if sender:
            x = taken if layer == 0 else work[at_x + node * into : at_x + (node + 1) * into]
            if layer == 0:
                _take_samples(pack.x[node], order, first, w, x)
            add_products(x, g_in, q, g_out, w, grad[node, at : at + half])
            add_products(x, g_in, heard, g_out, w, grad[node, at + half : at + 2 * half])
        if layer == 0:
            continue
        times_transposed(q, g_out, w, theta[node * own, at : at + half], g_in, z, True)
        if sender:
            times_transposed(heard, g_out, w, theta[node * own, at + half : at + 2 * half], g_in, z, False)
        else:
            for k in range(g_in * w):
                z[k] += heard[k]
        slope = work[q_below + node * into : q_below + (node + 1) * into]
        for k in range(into):
            z[k] *= slope[k]
        if sender or below > 0:  # it is going to be sent
            for k in range(into):
                slope[k] = z[k]
        if not sender:
            x = taken if below == 0 else work[x_below + node * under : x_below + (node + 1) * under]
            if below == 0:
                _take_samples(pack.x[node], order, first, w, x)
            a = work[a_below + node * under : a_below + (node + 1) * under]
            add_products(x, g_below, z, g_in, w, grad[node, at_below : at_below + half_below])
            add_products(
                a, g_below, z, g_in, w, grad[node, at_below + half_below : at_below + 2 * half_below]
            )


@compiled()
def _receive_slice(pack, op, row):  # type: ignore[no-untyped-def]
    start, width, column, store, incoming = op[START], op[WIDTH], op[COLUMN], pack.store, pack.incoming
    for ghost in range(pack.sizes[NODES], pack.sizes[SEEN]):
        begin = ghost * row + column
        for k in range(width):
            incoming[ghost, start + k] = store[begin + k]


@compiled()
def work(pack, step, received):  # type: ignore[no-untyped-def]
    """Fill the own rows of round `step`; or use its rows, once they are `received`."""
    first, count, row = pack.steps[step, FIRST], pack.steps[step, COUNT], pack.steps[step, ROW]
    for k in range(first, first + count):
        op = pack.ops[k]
        if op[OP] == FEATURES:
            _receive_features(pack, op, row) if received else _send_features(pack, op, row)
        elif op[OP] == BACKWARD:
            _receive_backward(pack, op, row) if received else _send_backward(pack, op, row)
        else:
            _receive_slice(pack, op, row) if received else _send_slice(pack, op, row)


@compiled()
def _put_in_outbox(pack, row):  # type: ignore[no-untyped-def]
    store, outbox, packed = pack.store, pack.outbox, pack.packed
    for k in range(len(packed)):
        source, target = store[packed[k] * row : (packed[k] + 1) * row], outbox[k * row : (k + 1) * row]
        for i in range(row):
            target[i] = source[i]


@compiled()
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
            work(pack, step, False)
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
            work(pack, step, True)
        step += 1
    return DONE, step, 0


NO_LINK = Link(0, 0, np.zeros(0, np.uint8), 1, np.zeros(1, np.int32), np.zeros(0, np.uint8))


def warm(arithmetic: str = "float64") -> None:
    """Compile, or load what was compiled before: a process that forks others does it once for all.

    Of passes in `arithmetic`, and of those in float64 that label its samples.
    """
    for own in dict.fromkeys((arithmetic, "float64")):
        _compile(own, arithmetic)


def _compile(own: str, samples: str) -> None:
    """For passes in the type `own`, of `samples` in another."""
    integers, values, rows = np.zeros(1, np.int64), np.zeros(1, own), np.zeros((1, 1), own)
    table, wide, x = np.zeros((1, 5), np.int64), np.zeros((3, 1)), np.zeros((1, 1, 1), samples)
    pack = Pack(
        sizes=np.zeros(11, np.int64), layers=np.zeros((1, 7), np.int64), slopes=wide[0], steps=table,
        ops=np.zeros((1, 6), np.int64), store=values, outbox=values, packed=integers[:0], indptr=integers,
        columns=integers, forward=values, backward=values, theta=rows, grad=rows, work=values,
        scratch=np.zeros((4, 1), own), wide=wide, x=x, y=x, order=integers, loss=wide[0],
        output=np.zeros((1, 1, 1), own), incoming=rows,
    )  # fmt: skip
    rounds(pack, NO_LINK, 0, 0, False, 1, False)
    work(pack, 0, False)
