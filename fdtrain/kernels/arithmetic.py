"""What a node computes, as compiled loops over the samples of a wave, a feature after the other: ``[g, w]``.

Every function works on one node, so that a node's arithmetic is the same wherever it lives.
"""

from __future__ import annotations

import math

import numpy as np

from fdtrain.kernels.compiling import compiled

SIGMOID, TANH, LEAKY_RELU, IDENTITY = range(4)

_WIDE = 8  # samples from which on loops over them are worth it
_MAGIC = (
    6755399441055744.0  # 1.5 · 2^52: adding it rounds to an integer, which then stands in the lowest bits
)
_MANY = 16  # numbers from which on a vectorised function is worth it
_LARGEST = 700.0  # e^709 overflows
_LOG2E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10


@compiled()
def neighbour_sum(store, width, column, size, begin, end, columns, weights, out):  # type: ignore[no-untyped-def]
    """out[:size] ← Σ_e weights[e] · (row columns[e] of `store`)[column : column + size], e = begin … end − 1, in order.

    `store` is flat, with rows of `width` numbers.
    """
    for k in range(size):
        out[k] = 0.0
    for e in range(begin, end):
        weight, start = weights[e], columns[e] * width + column
        row = store[start : start + size]
        for k in range(size):
            out[k] += weight * row[k]


@compiled(reassociates=True)
def _dot(x, y, w):  # type: ignore[no-untyped-def]
    total = x[0] * y[0]
    for s in range(1, w):
        total += x[s] * y[s]
    return total


@compiled()
def _add_rows(x, x_size, w, theta, start, step, y):  # type: ignore[no-untyped-def]
    """y [w] += Σ_k theta[start + k · step] · row k of x [x_size, w], four rows at a time."""
    k = 0
    while k + 4 <= x_size:
        at = start + k * step
        a, b, c, d = theta[at], theta[at + step], theta[at + 2 * step], theta[at + 3 * step]
        xa, xb = x[k * w : k * w + w], x[(k + 1) * w : (k + 1) * w + w]
        xc, xd = x[(k + 2) * w : (k + 2) * w + w], x[(k + 3) * w : (k + 3) * w + w]
        for s in range(w):
            y[s] = (((y[s] + a * xa[s]) + b * xb[s]) + c * xc[s]) + d * xd[s]
        k += 4
    while k < x_size:
        a, xa = theta[start + k * step], x[k * w : k * w + w]
        for s in range(w):
            y[s] += a * xa[s]
        k += 1


@compiled()
def times(x, x_size, w, theta, g_out, out, fresh):  # type: ignore[no-untyped-def]
    """out [g_out, w] ← (0 if `fresh` else out) + Θᵀx, from x [x_size, w] and Θ [x_size, g_out], all flat."""
    if fresh:
        for k in range(g_out * w):
            out[k] = 0.0
    if w == 1 and g_out == 1:
        out[0] += _dot(x, theta, x_size)
        return
    if w == 1:
        for k in range(x_size):
            value, row = x[k], theta[k * g_out : k * g_out + g_out]
            for j in range(g_out):
                out[j] += value * row[j]
        return
    if w < _WIDE:
        for s in range(w):
            for k in range(x_size):
                value = x[k * w + s]
                for j in range(g_out):
                    out[j * w + s] += value * theta[k * g_out + j]
        return
    for j in range(g_out):
        _add_rows(x, x_size, w, theta, j, g_out, out[j * w : j * w + w])


@compiled()
def times_transposed(q, g_out, w, theta, x_size, out, fresh):  # type: ignore[no-untyped-def]
    """out [x_size, w] ← (0 if `fresh` else out) + Θq, from q [g_out, w] and Θ [x_size, g_out], all flat."""
    if fresh:
        for k in range(x_size * w):
            out[k] = 0.0
    if w < _WIDE:
        for s in range(w):
            for j in range(g_out):
                value = q[j * w + s]
                for k in range(x_size):
                    out[k * w + s] += value * theta[k * g_out + j]
        return
    for k in range(x_size):
        _add_rows(q, g_out, w, theta, k * g_out, 1, out[k * w : k * w + w])


@compiled()
def add_products(x, x_size, q, g_out, w, out):  # type: ignore[no-untyped-def]
    """out [x_size, g_out] += x qᵀ, from x [x_size, w] and q [g_out, w], all flat: the gradient of Θ."""
    if w == 1 and g_out == 1:
        value = q[0]
        for k in range(x_size):
            out[k] += x[k] * value
        return
    if w == 1:
        for k in range(x_size):
            value, row = x[k], out[k * g_out : k * g_out + g_out]
            for j in range(g_out):
                row[j] += value * q[j]
        return
    if w < _WIDE:
        for s in range(w):
            for k in range(x_size):
                value = x[k * w + s]
                for j in range(g_out):
                    out[k * g_out + j] += value * q[j * w + s]
        return
    for k in range(x_size):
        xk = x[k * w : k * w + w]
        for j in range(g_out):
            out[k * g_out + j] += _dot(xk, q[j * w : j * w + w], w)


@compiled()
def exponential(x, size, out, scratch):  # type: ignore[no-untyped-def]
    """out ← exp(x) for |x| ≤ 700, to an ulp or so: x = k ln 2 + r, |r| ≤ ln 2 / 2, and a polynomial for exp(r).

    Without calls and branches, so that it is vectorised, other than the library's.
    """
    for k in range(size):
        scratch[k] = x[k] * _LOG2E + _MAGIC
    for k in range(size):
        whole = scratch[k] - _MAGIC
        r = (x[k] - whole * _LN2_HIGH) - whole * _LN2_LOW
        p = 1.6059043836821613e-10
        p = p * r + 2.08767569878681e-09
        p = p * r + 2.505210838544172e-08
        p = p * r + 2.755731922398589e-07
        p = p * r + 2.7557319223985893e-06
        p = p * r + 2.48015873015873e-05
        p = p * r + 0.0001984126984126984
        p = p * r + 0.001388888888888889
        p = p * r + 0.008333333333333333
        p = p * r + 0.041666666666666664
        p = p * r + 0.16666666666666666
        p = p * r + 0.5
        out[k] = (p * r) * r + r + 1.0
    exponents, bits = scratch.view(np.int64), out.view(np.int64)
    for k in range(size):
        bits[k] += exponents[k] << 52


@compiled()
def activate(kind, negative_slope, h, size, y, wide):  # type: ignore[no-untyped-def]
    """y[:size] ← σ(h), and h ← σ'(h), accurate where σ saturates; see :mod:`fdtrain.layers.activations`.

    `wide` [3, size] is for float64 numbers on the way, whatever the others are.
    """
    if kind == SIGMOID and size < _MANY:
        for k in range(size):
            e = math.exp(min(-np.float64(h[k]), _LARGEST))
            value = 1.0 / (e + 1.0)
            y[k] = value
            h[k] = e * value * value
    elif kind == SIGMOID:
        exponents, powers = wide[0], wide[1]
        for k in range(size):
            e = -np.float64(h[k])
            if e > _LARGEST:
                e = _LARGEST
            if e < -_LARGEST:
                e = -_LARGEST
            exponents[k] = e
        exponential(exponents, size, powers, wide[2])
        for k in range(size):
            e = powers[k]
            value = 1.0 / (e + 1.0)
            y[k] = value
            h[k] = e * value * value
    elif kind == TANH:
        for k in range(size):
            e = math.exp(-2.0 * abs(h[k]))
            y[k] = math.tanh(h[k])
            h[k] = 4.0 * e / ((1.0 + e) * (1.0 + e))
    elif kind == LEAKY_RELU:
        for k in range(size):
            slope = 1.0 if h[k] > 0 else negative_slope
            y[k] = h[k] * slope
            h[k] = slope
    else:
        for k in range(size):
            y[k] = h[k]
            h[k] = 1.0
