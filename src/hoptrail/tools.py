"""Tools that steps may call: a calculator, and the time between two dates.

Both are plain LangChain tools, for any agent; `Hoptrail(tools=[...])` takes any other beside them.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Context, Decimal, DecimalException, DivisionByZero, InvalidOperation, Overflow
from fractions import Fraction

from langchain_core.tools import ToolException, tool
from simpleeval import InvalidExpression, SimpleEval

_LONGEST_EXPRESSION = 1_000
_MOST_BITS = 10_000
"""Of a number and what it is divided by: about 3,000 digits."""
_MOST_DIGITS = 400
"""Before or after the point of a number that is written in an expression."""
_LONGEST_INTEGER = 100
_EXACT_DIGITS = 30
_ROUNDED_DIGITS = 15
_WORKING = Context(
    prec=45, Emax=5_000, Emin=-5_000, traps=[DivisionByZero, InvalidOperation, Overflow]
)
_SIGNS = str.maketrans({"^": "**", "×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})

_ISO_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_EARLIEST_YEAR = 1000
_GREGORIAN = date(1582, 10, 15)


@tool(parse_docstring=True)
def calculator(expression: str) -> str:
    """Give the value of an arithmetic expression: exact, or rounded and marked "about".

    Args:
        expression: Numbers with + - * / // % ** and parentheses, pi, e, and the functions abs,
            round, floor, ceil, min, max, sqrt, exp, log, log10, factorial. No units, no
            separators between thousands. Example: (1791 - 1756) * 0.5
    """
    if len(expression) > _LONGEST_EXPRESSION:
        raise ToolException(f"the expression is longer than {_LONGEST_EXPRESSION} characters")
    try:
        value = _value(expression.translate(_SIGNS).strip())
    except ZeroDivisionError:
        raise ToolException("it divides by zero") from None
    except (InvalidExpression, SyntaxError) as error:
        raise ToolException(f"this is no expression of numbers: {_reason(error)}") from error
    except DecimalException:
        raise ToolException("it has no value, or one out of range") from None
    except (ArithmeticError, ValueError, TypeError) as error:
        raise ToolException(f"it has no value: {error}") from error
    except (RecursionError, MemoryError):
        raise ToolException("the expression is nested too deeply") from None
    return _written(value)


@tool(parse_docstring=True)
def date_difference(start: str, end: str) -> str:
    """Give the time from one date to another: in days, and in years, months and days.

    Args:
        start: The first date as YYYY-MM-DD, such as 1756-01-27.
        end: The second date as YYYY-MM-DD, such as 1791-12-05.
    """
    first, last = _date("start", start), _date("end", end)
    if first > last:
        said = f"{end} is before {start}: "
        first, last = last, first
    else:
        said = ""
    days = (last - first).days
    said += f"From {first} to {last} it is {_amount(days, 'day')}, that is {_parts(first, last)}."
    if first < _GREGORIAN:
        said += " Both dates are taken as Gregorian; before 1582-10-15 most sources are not."
    return said


def _value(expression: str) -> Fraction:
    """Evaluate an expression; every number in it is a fraction, so that nothing is rounded."""
    tree = ast.parse(expression, mode="eval").body
    if any(isinstance(node, ast.Tuple) for node in ast.walk(tree)):
        raise InvalidExpression("write 1000, not 1,000")

    def number(node: ast.Constant) -> Fraction:
        return _number(node, ast.get_source_segment(expression, node) or "")

    evaluator = SimpleEval(operators=_OPERATORS, functions=_FUNCTIONS, names=_NAMES)
    # The library's other nodes (strings, attributes, subscripts, …) are no arithmetic.
    evaluator.nodes = {kind: evaluator.nodes[kind] for kind in _NODES} | {ast.Constant: number}
    value = evaluator.eval(expression, previously_parsed=tree)
    if not isinstance(value, Fraction):
        raise InvalidExpression(f"{expression} is the name of a function")
    return value


def _number(node: ast.Constant, text: str) -> Fraction:
    if type(node.value) is int:
        return _bounded(Fraction(node.value))
    if type(node.value) is not float:
        raise InvalidExpression(f"{text} is no real number")
    exact = Decimal(text)  # the float has lost digits
    if exact and abs(exact.adjusted()) > _MOST_DIGITS:
        raise OverflowError(f"{text} is out of range")
    return Fraction(exact)


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() + value.denominator.bit_length() > _MOST_BITS:
        raise OverflowError("a number in it becomes too large")
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        if base < 0:
            raise ValueError("a root of a negative number is not real")
        return _by_decimals(_WORKING.power)(base, exponent)
    bits = base.numerator.bit_length() + base.denominator.bit_length()
    if bits * abs(exponent.numerator) > _MOST_BITS and abs(base) != 1:
        raise OverflowError("a number in it becomes too large")
    return Fraction(base**exponent.numerator)


def _round(value: Fraction, digits: Fraction = Fraction(0)) -> Fraction:
    """Round half away from zero, as people do."""
    if digits.denominator != 1 or abs(digits) > _MOST_DIGITS:
        raise ValueError("round takes a number, and how many decimals to leave")
    scale = Fraction(10) ** digits.numerator
    nearest = math.floor(abs(value) * scale + Fraction(1, 2)) / scale
    return nearest if value >= 0 else -nearest


def _factorial(number: Fraction) -> Fraction:
    if number.denominator != 1 or not 0 <= number <= _MOST_DIGITS:
        raise ValueError(f"factorial takes a whole number from 0 to {_MOST_DIGITS}")
    return Fraction(math.factorial(number.numerator))


def _by_decimals(function: Callable[..., Decimal]) -> Callable[..., Fraction]:
    """Make a function of fractions from one of decimals, which may be rounded."""

    def applied(*values: Fraction) -> Fraction:
        result = function(*map(_decimal, values))
        if not result.is_finite():
            raise ValueError("it is infinite")
        return Fraction(result)

    return applied


def _decimal(value: Fraction, context: Context = _WORKING) -> Decimal:
    return context.divide(Decimal(value.numerator), Decimal(value.denominator))


def _checked(function: Callable[..., Fraction | int]) -> Callable[..., Fraction]:
    def applied(*values: Fraction) -> Fraction:
        return _bounded(Fraction(function(*values)))

    return applied


_NODES = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Name)
_NAMES: Mapping[str, Fraction] = {
    "pi": Fraction("3.14159265358979323846264338327950288419716939"),
    "e": Fraction("2.71828182845904523536028747135266249775724709"),
}
_OPERATORS: Mapping[type[ast.AST], Callable[..., Fraction]] = {
    ast.Add: _checked(lambda left, right: left + right),
    ast.Sub: _checked(lambda left, right: left - right),
    ast.Mult: _checked(lambda left, right: left * right),
    ast.Div: _checked(lambda left, right: left / right),
    ast.FloorDiv: _checked(lambda left, right: left // right),
    ast.Mod: _checked(lambda left, right: left % right),
    ast.Pow: _checked(_power),
    ast.UAdd: _checked(lambda value: value),
    ast.USub: _checked(lambda value: -value),
}
_FUNCTIONS: Mapping[str, Callable[..., Fraction]] = {
    "abs": _checked(abs),
    "round": _checked(_round),
    "floor": _checked(math.floor),
    "ceil": _checked(math.ceil),
    "min": _checked(min),
    "max": _checked(max),
    "sqrt": _checked(_by_decimals(_WORKING.sqrt)),
    "exp": _checked(_by_decimals(_WORKING.exp)),
    "log": _checked(_by_decimals(_WORKING.ln)),
    "log10": _checked(_by_decimals(_WORKING.log10)),
    "factorial": _checked(_factorial),
}


def _written(value: Fraction) -> str:
    if value.denominator == 1 and abs(value) < 10**_LONGEST_INTEGER:
        return str(value.numerator)
    exact = _decimal(value, Context(prec=_EXACT_DIGITS))
    if exact.is_finite() and Fraction(exact) == value:
        return _digits(exact)
    return f"about {_digits(_decimal(value, Context(prec=_ROUNDED_DIGITS)))}"


def _digits(number: Decimal) -> str:
    short = number.normalize(Context(prec=_EXACT_DIGITS))
    return f"{short:f}" if -7 <= short.adjusted() <= _ROUNDED_DIGITS else f"{short:E}"


def _reason(error: Exception) -> str:
    return str(error.msg if isinstance(error, SyntaxError) else error)


def _date(name: str, text: str) -> date:
    parts = _ISO_DATE.fullmatch(text.strip())
    if parts is None:
        raise ToolException(f"{name} is {text!r}: write it as YYYY-MM-DD, such as 1756-01-27")
    year, month, day = map(int, parts.groups())
    if year < _EARLIEST_YEAR:
        raise ToolException(f"{name} is {text!r}: years before {_EARLIEST_YEAR} are not known here")
    try:
        return date(year, month, day)
    except ValueError as error:
        raise ToolException(f"{name} is {text!r}: there is no such day ({error})") from error


def _parts(first: date, last: date) -> str:
    """Say a time in whole years, whole months of what is left, and days."""
    months = (last.year - first.year) * 12 + last.month - first.month
    if _months_later(first, months) > last:
        months -= 1
    days = (last - _months_later(first, months)).days
    counted = [(months // 12, "year"), (months % 12, "month"), (days, "day")]
    told = [_amount(number, unit) for number, unit in counted if number] or ["0 days"]
    return " and ".join(filter(None, [", ".join(told[:-1]), told[-1]]))


def _months_later(first: date, months: int) -> date:
    """Give the same day some months later, or the last one of that month."""
    year, month = divmod(first.year * 12 + first.month - 1 + months, 12)
    for day in range(first.day, 27, -1):
        try:
            return date(year, month + 1, day)
        except ValueError:
            continue
    return date(year, month + 1, min(first.day, 28))


def _amount(number: int, unit: str) -> str:
    return f"{number} {unit}" + ("" if number == 1 else "s")
