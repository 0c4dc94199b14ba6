"""A JAX program walked through in ball arithmetic.

What has no floating-point operand runs in JAX itself, and so does what only moves numbers about: on their
positions, which then index the balls.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend import core
from jax.extend.source_info_util import summarize

from jaxce.ball_arithmetic.arrays import Value, elementwise, entering, holds_balls
from jaxce.ball_arithmetic.balls import FUNCTIONS, Undecided, Unsupported
from jaxce.ball_arithmetic.primitives import BY_POSITIONS, MOVES, RULES, as_balls, by_positions, convert


def evaluate(program: core.ClosedJaxpr | core.Jaxpr, args: Sequence[Value]) -> list[Value]:
    """The results of a program for `args`, which are balls where it takes floats.

    Raises:
        Undecided: Balls are too wide: more precision may help.
        Unsupported: The program holds a primitive without a rule.
        OverflowError: A number is too large for ball arithmetic.
    """
    jaxpr: Any = program
    consts: Sequence[Any] = ()
    if isinstance(program, core.ClosedJaxpr):
        jaxpr, consts = program.jaxpr, program.consts
    env: dict[Any, Value] = dict(zip(jaxpr.invars, args, strict=True))
    env |= {var: entering(const, var.aval.dtype) for var, const in zip(jaxpr.constvars, consts, strict=True)}

    def read(var: Any) -> Value:
        return (
            env[var]
            if not isinstance(var, core.Literal)
            else entering(var.val, getattr(var.aval, "dtype", None))
        )

    for eqn in jaxpr.eqns:
        try:
            results = _apply(eqn, [read(var) for var in eqn.invars])
        except (Undecided, OverflowError, Unsupported) as error:
            name, line = error.args or (eqn.primitive.name, "")  # of the innermost operation
            error.args = name, line or summarize(eqn.source_info)
            raise
        env.update(zip(eqn.outvars, results if eqn.primitive.multiple_results else [results], strict=True))
    return [read(var) for var in jaxpr.outvars]


def _apply(eqn: Any, operands: list[Value]) -> Any:
    name, params = eqn.primitive.name, eqn.params
    if name in CONTROL:
        return CONTROL[name](eqn, *operands)
    for inner in (params.get(key) for key in ("jaxpr", "call_jaxpr", "fun_jaxpr")):
        if isinstance(inner, core.ClosedJaxpr | core.Jaxpr):  # jit, checkpoint, custom derivatives
            return evaluate(inner, operands)
    if name in MOVES:
        return MOVES[name](params, *operands)
    if name == "convert_element_type":
        return convert(operands[0], params["new_dtype"])
    if not any(map(holds_balls, operands)):
        results = eqn.primitive.bind(*operands, **params)
        if eqn.primitive.multiple_results:
            return [entering(each, var.aval.dtype) for each, var in zip(results, eqn.outvars, strict=True)]
        return entering(results, eqn.outvars[0].aval.dtype)
    if name in BY_POSITIONS:
        return by_positions(eqn.primitive, params, *operands)
    if name in RULES:
        return RULES[name](params, *operands)
    if name in FUNCTIONS:
        return elementwise(FUNCTIONS[name], *map(as_balls, operands))
    raise Unsupported


def _cond(eqn: Any, index: Any, *operands: Value) -> list[Value]:
    branches = eqn.params["branches"]
    return evaluate(branches[min(max(int(index), 0), len(branches) - 1)], operands)


def _while(eqn: Any, *operands: Value) -> list[Value]:
    params = eqn.params
    first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    of_test, of_body, carry = operands[:first], operands[first:second], operands[second:]
    while bool(evaluate(params["cond_jaxpr"], [*of_test, *carry])[0]):
        carry = tuple(evaluate(params["body_jaxpr"], [*of_body, *carry]))
    return list(carry)


def _scan(eqn: Any, *operands: Value) -> list[Value]:
    params, body = eqn.params, eqn.params["jaxpr"]
    # Which operands are constants, carried or stacked is written differently from version to version of JAX;
    # what is stacked has one axis more than the body sees.
    count = sum(o.aval.ndim == own.aval.ndim for o, own in zip(eqn.outvars, body.jaxpr.outvars, strict=True))
    stacked = sum(i.aval.ndim > own.aval.ndim for i, own in zip(eqn.invars, body.jaxpr.invars, strict=True))
    first = len(operands) - count - stacked
    consts, carry, xs = operands[:first], list(operands[first : first + count]), operands[first + count :]
    outputs = []
    steps = range(params["length"])
    for i in reversed(steps) if params["reverse"] else steps:
        found = evaluate(body, [*consts, *carry, *(x[i, ...] for x in xs)])
        carry = found[:count]
        outputs.append(found[count:])
    if params["reverse"]:
        outputs.reverse()
    if outputs:
        return [*carry, *(np.stack(list(map(np.asarray, column))) for column in zip(*outputs, strict=True))]
    avals = [var.aval for var in body.jaxpr.outvars[count:]]
    return [*carry, *(entering(np.empty((0, *aval.shape), aval.dtype), aval.dtype) for aval in avals)]


CONTROL = {"cond": _cond, "while": _while, "scan": _scan}
