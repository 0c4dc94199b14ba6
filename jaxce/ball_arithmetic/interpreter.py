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
from jaxce.ball_arithmetic.balls import FUNCTIONS, Undecided
from jaxce.ball_arithmetic.primitives import BY_POSITIONS, MOVES, RULES, as_balls, by_positions, convert


def evaluate(program: core.ClosedJaxpr | core.Jaxpr, args: Sequence[Value]) -> list[Value]:
    """The results of a program for `args`, which are balls where it takes floats.

    Raises:
        Undecided: Balls are too wide: more precision may help.
        NotImplementedError: The program holds a primitive without a rule.
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
        except (Undecided, OverflowError, NotImplementedError) as error:
            name, line = error.args or (eqn.primitive.name, "")  # of the innermost operation
            error.args = name, line or summarize(eqn.source_info)
            raise
        env.update(zip(eqn.outvars, results if eqn.primitive.multiple_results else [results], strict=True))
    return [read(var) for var in jaxpr.outvars]


def _apply(eqn: Any, operands: list[Value]) -> Any:
    name, params = eqn.primitive.name, eqn.params
    if name == "scan":  # JAX 0.12 no longer counts what is carried, but what is stacked has one more axis
        body = params["jaxpr"].jaxpr
        carried = sum(
            out.aval.ndim == own.aval.ndim for out, own in zip(eqn.outvars, body.outvars, strict=True)
        )
        stacked = sum(into.aval.ndim > own.aval.ndim for into, own in zip(eqn.invars, body.invars, strict=True))
        counts = {"num_carry": carried, "num_consts": len(eqn.invars) - carried - stacked}
        return _scan({**params, **counts}, *operands)
    if name in CONTROL:
        return CONTROL[name](params, *operands)
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
    raise NotImplementedError


def _cond(params: dict[str, Any], index: Any, *operands: Value) -> list[Value]:
    branches = params["branches"]
    return evaluate(branches[min(max(int(index), 0), len(branches) - 1)], operands)


def _while(params: dict[str, Any], *operands: Value) -> list[Value]:
    first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    of_test, of_body, carry = operands[:first], operands[first:second], operands[second:]
    while bool(evaluate(params["cond_jaxpr"], [*of_test, *carry])[0]):
        carry = tuple(evaluate(params["body_jaxpr"], [*of_body, *carry]))
    return list(carry)


def _scan(params: dict[str, Any], *operands: Value) -> list[Value]:
    first, count, body = params["num_consts"], params["num_carry"], params["jaxpr"]
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


CONTROL = {"cond": _cond, "while": _while}
