"""Prepared calls of handlers, compiled from the handlers' signatures."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import suppress
from types import FunctionType, MethodType
from typing import Any, TypeAlias

from glowplug.engine._deferred import DEFERRED, check_function
from glowplug.engine._parameters import ENGINE, EXCEPTION, Role, accepts, is_from_library
from glowplug.events import EventEnum, Events

Key: TypeAlias = EventEnum | str
Call: TypeAlias = Callable[..., Any]

NEEDS_PAYLOAD = (Events.EXCEPTION_RAISED, Events.TERMINATE_SINGLE_EPOCH)
"""Events whose handlers receive an additional argument, which only the engine knows."""
_SPECIAL = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | DEFERRED


class Delegate:
    """Base class of objects that run as handlers on behalf of another object.

    Attributes:
        owner: The object that the handler runs for; ``describe()`` shows the plugin or module of this object.
        label: The text that ``describe()`` shows for the handler.

    Example:
        >>> class Restore(Delegate):
        ...     def __init__(self, owner):
        ...         self.owner = owner
        ...         self.label = f"{type(owner).__name__}.restore"
        ...
        ...     def __call__(self, engine): ...
        >>> class Stopping: ...
        >>> describe_handler(Restore(Stopping()))
        'Stopping.restore'
    """

    owner: Any
    label: str


def unwrap(handler: Any) -> Any:
    """Return the function that a ``functools.partial`` object wraps; return any other handler unchanged."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    return handler


def owner_of(handler: Any) -> Any:
    """Return the object that a handler runs for: a delegate's owner, the object of a bound method, or the handler itself."""
    receiver = _receiver_of(unwrap(handler))
    return receiver.owner if isinstance(receiver, Delegate) else receiver


def _receiver_of(function: Any) -> Any:
    return function.__self__ if isinstance(function, MethodType) else function


def describe_handler(handler: Any) -> str:
    """Return the name of a handler; for a method, include the name of the class.

    Example:
        >>> class Stopping:
        ...     def look(self): ...
        >>> class MyStopping(Stopping): ...
        >>> describe_handler(MyStopping().look)
        'MyStopping.look'
    """
    function = unwrap(handler)
    receiver = _receiver_of(function)
    if isinstance(receiver, Delegate):
        return receiver.label
    if receiver is not function:
        return f"{_qualified_name(receiver)}.{function.__name__}"
    return _qualified_name(function)


def _qualified_name(value: Any) -> str:
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def compile_call(  # noqa: C901, PLR0911 - one branch and one return per form of call
    handler: Callable[..., Any], key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call:
    """Return a function ``call(engine, *payload)`` that calls a handler with the arguments that its signature accepts.

    A parameter receives the engine if its name or annotation indicates an engine. A parameter that has no default also receives
    the engine, unless its annotation names a type that is not an engine. The same rules determine
    whether a parameter receives the exception.

    Raises:
        TypeError: If the handler is not callable, or is an ``async`` function or a generator function.
        ValueError: If the handler cannot be called with these arguments.
    """
    if not args and not kwargs and key not in NEEDS_PAYLOAD and _takes_only_engine(handler):
        # Skip signature inspection, which is slow, for a plain function with one parameter.
        return handler
    signature, function = _signature(handler, key), unwrap(handler)

    def takes(*first: Role, **more: Any) -> bool:
        try:
            signature.bind(*first, *args, **kwargs, **more)
        except TypeError:
            return False
        return accepts(function, signature, *first)

    if key is Events.EXCEPTION_RAISED:
        if takes(ENGINE, EXCEPTION):
            return lambda e, error: handler(e, error, *args, **kwargs)
        if takes(EXCEPTION):
            return lambda _, error: handler(error, *args, **kwargs)
        if takes(ENGINE):
            return lambda e, _: handler(e, *args, **kwargs)
        raise ValueError(_misfit(handler, key, "(engine, exception), (exception) or (engine)", args, kwargs))
    if key is Events.TERMINATE_SINGLE_EPOCH:
        if takes(ENGINE, iter_counter=0):
            return lambda e, n: handler(e, *args, iter_counter=n, **kwargs)
        if takes(iter_counter=0):
            return lambda _, n: handler(*args, iter_counter=n, **kwargs)
    elif not args and not kwargs and takes(ENGINE):
        return handler
    if takes(ENGINE):
        return lambda e, *_: handler(e, *args, **kwargs)
    if takes():
        return lambda *_: handler(*args, **kwargs)
    raise ValueError(_misfit(handler, key, "(engine) or ()", args, kwargs))


def check_process_function(process_function: object) -> None:
    """Check that a process function accepts an engine and a batch, and is not an ``async`` or generator function."""
    if not callable(process_function):
        raise ValueError(  # noqa: TRY004 - ignite raises ValueError here
            f"Engine needs a process_function that can be called as f(engine, batch), got {process_function!r}"
        )
    if positional_arity(process_function) == 2:  # noqa: PLR2004 - engine and batch
        return
    check_function(process_function, f"process_function {describe_handler(process_function)}")
    try:
        inspect.signature(process_function).bind(None, None)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"process_function must accept the arguments (engine, batch), but {process_function!r} does not: {error}"
        ) from None


def check_attachable(handler: Any) -> None:
    """Check that a handler can be attached with ``handler.attach(engine)``.

    Args:
        handler: The object given to ``engine.attach``.

    Raises:
        TypeError: If ``handler`` has no ``attach`` method, or if the method requires further arguments.
    """
    attach = getattr(handler, "attach", None)
    if isinstance(handler, type) or not callable(attach):
        raise TypeError(
            f"engine.attach() needs handler objects with a method attach(engine), got {handler!r}; pass an object such as "
            "EarlyStopping(...), or register a function with add_event_handler(event, function)"
        )
    try:
        parameters = list(inspect.signature(attach).parameters.values())
    except (TypeError, ValueError):
        # Some callables have no signature; if arguments are missing, the call itself raises.
        return
    needed = [
        parameter.name
        for parameter in parameters[1:]
        if parameter.default is parameter.empty
        and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
    ]
    if needed:
        name = type(handler).__name__
        raise TypeError(
            f"engine.attach() passes only the engine, but {name}.attach has further required parameters: {', '.join(needed)}. "
            f"Call {name}(...).attach(engine, {', '.join(needed)}) instead"
        )


def positional_arity(function: object) -> int | None:
    """Return the number of parameters of a plain function or method; return ``None`` for other callables."""
    bound = isinstance(function, MethodType)
    function = function.__func__ if isinstance(function, MethodType) else function
    if not isinstance(function, FunctionType):
        return None
    code = function.__code__
    return None if code.co_kwonlyargcount or code.co_flags & _SPECIAL else code.co_argcount - bound


def _takes_only_engine(handler: object) -> bool:
    """Return whether a handler is a plain function or method whose only parameter accepts the engine."""
    if positional_arity(handler) != 1:
        return False
    function: Any = handler.__func__ if isinstance(handler, MethodType) else handler
    if ENGINE.is_named(function.__code__.co_varnames[isinstance(handler, MethodType)]):
        return True
    return not (function.__defaults__ or function.__annotations__ or is_from_library(function))


def _signature(handler: Any, key: Key) -> inspect.Signature:
    name = describe_handler(handler)
    if not callable(handler):
        hint = "; use engine.attach(handler) instead" if hasattr(handler, "attach") else ""
        raise TypeError(f"a handler of {key} must be callable, got {handler!r}{hint}")
    check_function(handler, f"handler {name} of {key}")
    with suppress(Exception):
        # Evaluation fails if an annotation uses a name that exists only for type checkers.
        signature = inspect.signature(handler, eval_str=True)
        if isinstance(handler, FunctionType) and "self" in list(signature.parameters)[:1]:
            # A learning rate scheduler replaces optimizer.step with a function that wraps the unbound method.
            signature = inspect.signature(handler, follow_wrapped=False)
        return signature
    try:
        return inspect.signature(handler)
    except ValueError:
        raise ValueError(
            f"Python cannot determine the signature of handler {name} of {key}; wrap the handler: lambda engine: {name}(...)"
        ) from None


def _misfit(handler: Any, key: Key, form: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    extra = (
        f", followed by the arguments given at registration, args={args!r} and kwargs={kwargs!r}"
        if args or kwargs
        else ""
    )
    return (
        f"handler {describe_handler(handler)}{inspect.signature(handler)} of {key} cannot be called with {form}{extra}; "
        "change the handler's parameters, or wrap the handler in a lambda. A handler receives the engine if its first parameter "
        "is named or annotated as an engine, or if that parameter has no default and is not annotated with another type. "
        "Functions of the standard library, numpy and torch never receive the engine"
    )
