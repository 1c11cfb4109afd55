"""Code of the user's own, called in one way: whatever it raises becomes one line that names the place.

A model factory, a metric or an algorithm may raise anything: an error whose message is empty, has many lines or cannot
be shown at all, `SystemExit`, which would end the run as if it had succeeded, or `StopIteration`, which a generator of
raysim's would take for its own end.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from raysim.errors import RaysimError, UserCodeError

T = TypeVar("T")

LONGEST = 300
"""Characters of an error's message that are shown; the traceback has it whole."""

Complaint = Callable[..., str | None]
"""(the object, what its method returned, the method's arguments) to what is wrong with it; None where nothing is."""


class user_code:
    """Calls code of the user's own: `with user_code("model.name: my:net", ModelError): …`.

    Whatever is raised inside is raised as an error of raysim's that is caused by it. Errors of raysim's own pass, and
    so does Ctrl-C; one that user code raised further inside is told with both places.

    Attributes:
        interruptible: whether a `KeyboardInterrupt` is Ctrl-C. In an actor, which no terminal reaches, it is an error
            like any other.
    """

    interruptible: ClassVar[bool] = True

    def __init__(self, place: str, error: type[RaysimError] = UserCodeError) -> None:
        """At a place, as the one line names it."""
        self.place, self.error = place, error

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UserCodeError):
            error.name(self.place)
            if self.error is not UserCodeError:
                raise error.again(self.error) from error.__cause__
        elif error is not None and not passes(error):
            raise failure(self.place, error, self.error) from error


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Have errors of user code inside name this place, too; any other error passes as it is."""
    try:
        yield
    except UserCodeError as error:
        error.name(place)
        raise


def passes(error: BaseException) -> bool:
    """Whether an error is to be raised as it is: raysim's own, or Ctrl-C."""
    if isinstance(error, RaysimError):
        return type(error).__module__ == RaysimError.__module__  # a class of the user's own may not survive pickling
    return isinstance(error, KeyboardInterrupt) and user_code.interruptible


def failure(place: str, error: BaseException, kind: type[RaysimError] = UserCodeError) -> RaysimError:
    """The error of raysim's to raise `from` one of the user's code."""
    found = kind(f"{place}: {told(error)}")
    found.users, found.memory = True, out_of_memory(error)
    return found


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; torch's own error is told by its name, for torch may not be imported."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def told(error: BaseException) -> str:
    """An error in one line: its type and its message, cut to `LONGEST` printable characters."""
    name, message = one_line(type(error).__name__), _message(error)
    line = f"{name}: {message}" if message else name
    if isinstance(error, BaseExceptionGroup):
        line += f", the first is {told(error.exceptions[0])}"
    return f"{line} (sys.exit ends no run; raise an error instead)" if isinstance(error, SystemExit) else line


def described(value: object) -> str:
    """A value in a few words: its type, and of an array its shape and type of numbers."""
    import numpy as np  # here, for `raysim --help` takes no more than it needs

    if isinstance(value, np.ndarray):
        return f"an array of shape {list(value.shape)} and type {value.dtype}"
    if isinstance(value, tuple | list) and value:
        kinds = [type(one).__name__ for one in value[:3]] + ["…"] * (len(value) > 3)
        return f"a {type(value).__name__} of {len(value)} ({', '.join(kinds)})"
    return f"a {type(value).__name__}"


def one_line(text: str) -> str:
    """A text without line breaks and control characters, cut to `LONGEST` characters."""
    words = " ".join(text[: 8 * LONGEST].split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"


def _message(error: BaseException) -> str:
    try:
        return one_line(str(error))
    except BaseException as broken:
        return f"(its message cannot be shown: str() of it raises {type(broken).__name__})"


def guarded(
    cls: type[T],
    contract: type,
    place: str,
    *,
    apart_from: Container[str] = (),
    returns: Mapping[str, Complaint] | None = None,
) -> type[T]:
    """The user's class with the methods and properties of a contract that it overrides called as `user_code`.

    Args:
        cls: the user's class.
        contract: the base class whose public names are guarded.
        place: where the user named the class; an error adds the method.
        apart_from: names that their caller guards.
        returns: what is wrong with a value that a method, or property, returns.

    Raises:
        UserCodeError: the class refuses to be subclassed.
    """
    hooks: dict[str, Any] = {}
    for name in dir(contract):
        own = inspect.getattr_static(cls, name, None)
        if name.startswith("_") or name in apart_from or own is inspect.getattr_static(contract, name, None):
            continue
        if isinstance(own, property) and own.fget is not None:
            hooks[name] = property(_guarded(own.fget, f"{place}: {name}", (returns or {}).get(name)))
        elif inspect.isfunction(own):
            hooks[name] = _guarded(own, f"{place}: {name}", (returns or {}).get(name))
    told_as = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    with user_code(place):
        made: type[T] = types.new_class(cls.__name__, (cls,), exec_body=lambda names: names.update(told_as | hooks))
    return made


def _guarded(function: Callable[..., T], place: str, complaint: Complaint | None) -> Callable[..., T]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> T:
        with user_code(place):
            result = function(*args, **kwargs)
            wrong = None if complaint is None else complaint(args[0], result, *args[1:], **kwargs)
        if wrong is not None:
            raise UserCodeError(f"{place} returned {wrong}")
        return result

    return call
