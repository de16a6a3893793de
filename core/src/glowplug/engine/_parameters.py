"""Rules that decide which parameters of a handler receive the engine or the exception."""

from __future__ import annotations

import functools
import re
import sys
import typing
from inspect import Parameter, Signature, isroutine
from types import MethodType, UnionType
from typing import Any, NamedTuple

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
# Functions of these packages never expect an engine.
_LIBRARIES = sys.stdlib_module_names | {"numpy", "torch"}


class Role(NamedTuple):
    """Role of a parameter that receives the engine or the exception.

    Args:
        name: Pattern for the names of parameters with this role.
        base: Pattern for the names of classes with this role. If an annotation is a class, the names of the class and its
            base classes are searched for the pattern. If an annotation is a string, the string is searched.
    """

    name: re.Pattern[str]
    base: re.Pattern[str]

    @functools.cache  # noqa: B019 - there are two roles, and names repeat
    def is_named(self, name: str) -> bool:
        """Return whether a parameter's name indicates the role."""
        return self.name.search(name.lower()) is not None


ENGINE = Role(
    re.compile(r"(^|[_\d])(engine|trainer|evaluator|validator|tester)s?(?=$|[_\d])"),
    re.compile("Engine|^HandlerTable$"),
)
EXCEPTION = Role(
    re.compile(r"(^|[_\d])(exception|exc|error|err|e)(?=$|[_\d])"), re.compile("^BaseException$")
)


def accepts(function: Any, signature: Signature, *roles: Role) -> bool:
    """Return whether the first parameters of a handler match the given roles.

    Args:
        function: The handler's function, without any ``functools.partial`` around it.
        signature: The signature of the handler.
        *roles: The role of each positional argument.
    """
    parameters = list(signature.parameters.values())
    is_library = is_from_library(function)
    if is_library and ENGINE in roles:
        return False
    for position, role in enumerate(roles):
        if position >= len(parameters) or parameters[position].kind not in _POSITIONAL:
            # Only ``*args`` accepts a further positional argument.
            return any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters)
        if not _is_meant(parameters[position], role, is_library=is_library):
            return False
    return True


def is_from_library(function: Any) -> bool:
    """Return whether an object is a function of the standard library, numpy or torch."""
    if not isroutine(function):
        return False
    function = function.__func__ if isinstance(function, MethodType) else function
    module = getattr(function, "__module__", None) or type(getattr(function, "__self__", function)).__module__
    return isinstance(module, str) and module.partition(".")[0] in _LIBRARIES


def _is_meant(parameter: Parameter, role: Role, *, is_library: bool) -> bool:
    if role.is_named(parameter.name):
        return True
    # A parameter for the engine never receives the exception.
    if role is EXCEPTION and (ENGINE.is_named(parameter.name) or _is_annotated(parameter.annotation, ENGINE)):
        return False
    annotated = _is_annotated(parameter.annotation, role)
    return (parameter.default is Parameter.empty and not is_library) if annotated is None else annotated


def _is_annotated(annotation: Any, role: Role) -> bool | None:
    """Return whether an annotation indicates the role, or ``None`` if the annotation is inconclusive."""
    origin = typing.get_origin(annotation)
    if origin is typing.Union or origin is UnionType:
        found = [_is_annotated(part, role) for part in typing.get_args(annotation) if part is not type(None)]
        return True if True in found else None if None in found else False
    if isinstance(annotation, str):
        return True if role.base.search(annotation) else None
    cls = annotation if origin is None else origin
    if not isinstance(cls, type) or cls in (Any, object, Parameter.empty):
        return None
    if any(role.base.search(base.__name__) for base in cls.__mro__):
        return True
    # A protocol may describe an engine, so it does not exclude the role.
    is_protocol = getattr(cls, "_is_protocol", False) and cls.__module__ not in _LIBRARIES
    return None if is_protocol else False
