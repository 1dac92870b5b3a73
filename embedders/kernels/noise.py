"""Negative samples: six at a time from an alias table, with a counter-based generator (splitmix64)."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from embedders.kernels.alias import alias_table
from embedders.kernels.block import LANES
from embedders.kernels.offsets import spread
from embedders.kernels.simd import _FLOAT, _INT, TARGETS, _constant, _pick

GOLDEN, MIX_A, MIX_B = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
STRIDE = LANES * GOLDEN % 2**64  # how far one draw of six moves the counter
_LONG = ir.IntType(64)


def noise_table(weights: NDArray[np.float64]) -> NDArray[np.uint64]:
    """(n,) alias table of a distribution: in the high half the chance (of 2^32) to stay, in the low the other row."""
    keep, other = alias_table(weights)
    chance = np.minimum(keep.astype(np.float64) * 2**32, 2**32 - 1).astype(np.uint64)
    return np.asarray(chance << np.uint64(32) | other.astype(np.uint64))


@njit(inline="always")
def mixed(counter: Any) -> Any:
    """64 random bits of a counter that grows by GOLDEN (splitmix64: Steele, Lea and Flood 2014)."""
    z = (counter ^ (counter >> np.uint64(30))) * np.uint64(MIX_A)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(MIX_B)
    return z ^ (z >> np.uint64(31))


def _longs(value: int | list[int]) -> ir.Constant:
    return _constant(value if isinstance(value, list) else [value] * LANES, _LONG, LANES)


@intrinsic
def draw(typing: Any, noise: Any, counter: Any, centre: Any, lead: Any, negatives: Any, width: Any, targets: Any, goals: Any, first: Any) -> Any:  # fmt: skip
    """Write six targets and their goals from `first` on: negatives, and the centre word as the last one if it leads.

    Lane k draws from `counter` + (k + 1) GOLDEN. Of the six the last `negatives` (before the centre) are wanted; the
    others become copies of the last. A copy of a later target, and of the centre word, gets the goal -1.

    noise : see `noise_table`. centre : its offset in a matrix `width` wide. targets : int64. goals : float32.
    """
    signature = types.void(
        noise, types.uint64, types.intp, types.boolean, types.intp, types.intp, targets, goals, types.intp
    )

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        noise_, counter_, centre_, lead_, negatives_, width_, targets_, goals_, first_ = args
        n = cgutils.unpack_tuple(builder, context.make_array(sig.args[0])(context, builder, value=noise_).shape)[0]
        noise_, targets_, goals_ = (
            context.make_array(sig.args[i])(context, builder, value=args[i]).data for i in (0, 6, 7)
        )
        lead_ = builder.trunc(lead_, ir.IntType(1)) if lead_.type.width > 1 else lead_
        low, last = _longs(0xFFFFFFFF), TARGETS - 1

        def shifted(value: Any, by: int) -> Any:
            return builder.lshr(value, _longs(by))

        steps = [(k + 1) * GOLDEN % 2**64 for k in range(LANES)]
        z = builder.add(spread(builder, counter_, LANES), _longs(steps))
        z = builder.mul(builder.xor(z, shifted(z, 30)), _longs(MIX_A))
        z = builder.mul(builder.xor(z, shifted(z, 27)), _longs(MIX_B))
        z = builder.xor(z, shifted(z, 31))
        row = shifted(builder.mul(shifted(z, 32), builder.and_(spread(builder, n, LANES), low)), 32)
        entry = ir.Constant(ir.VectorType(_LONG, LANES), [0] * LANES)
        for k in range(TARGETS):
            at = builder.extract_element(row, _INT(k))
            entry = builder.insert_element(entry, builder.load(builder.gep(noise_, [at])), _INT(k))
        stays = builder.icmp_unsigned("<", builder.and_(z, low), shifted(entry, 32))
        row = builder.select(stays, row, builder.and_(entry, low))
        place = builder.mul(row, spread(builder, width_, LANES))
        drawn = builder.extract_element(place, _INT(last))
        place = builder.insert_element(place, builder.select(lead_, centre_, drawn), _INT(last))
        count = builder.add(negatives_, builder.zext(lead_, _LONG))
        unused = builder.icmp_signed(
            "<", _longs(list(range(LANES))), spread(builder, builder.sub(_LONG(TARGETS), count), LANES)
        )
        place = builder.select(unused, _pick(builder, place, place, [last] * LANES), place)
        idle = builder.icmp_unsigned("==", place, spread(builder, centre_, LANES))
        nowhere = _longs(-1)
        for ahead in range(1, TARGETS):
            later = [k + ahead if k + ahead < TARGETS else LANES for k in range(LANES)]
            idle = builder.or_(idle, builder.icmp_unsigned("==", place, _pick(builder, place, nowhere, later)))
        goal = builder.select(idle, _constant(-1.0, lanes=LANES), _constant([0.0] * TARGETS + [-1.0] * 2, lanes=LANES))
        final = builder.select(lead_, _FLOAT(1.0), builder.extract_element(goal, _INT(last)))
        goal = builder.insert_element(goal, final, _INT(last))
        builder.store(place, builder.bitcast(builder.gep(targets_, [first_]), place.type.as_pointer()), align=8)
        builder.store(goal, builder.bitcast(builder.gep(goals_, [first_]), goal.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return signature, generate
