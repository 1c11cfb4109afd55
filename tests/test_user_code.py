"""How errors of user code are told, and how its methods are guarded."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from raysim.errors import ClientError, ConfigError, ModelError, RunError, UserCodeError
from raysim.user_code import LONGEST, guarded, naming, one_line, told, user_code


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit


class Two(Exception):
    """Cannot be made again from its `args`, as unpickling would."""

    def __init__(self, one: object, two: object) -> None:
        super().__init__(one)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KeyError("mine"), "KeyError: 'mine'"),
        (ValueError(), "ValueError"),
        (ValueError(" \n "), "ValueError"),
        (ValueError("one\n  two\r\nthree\u2028four"), "ValueError: one two three four"),
        (ValueError("\x1b[2J\x00\u202egnp\ud800"), r"ValueError: \x1b[2J\x00\u202egnp\ud800"),
        (Mute(), "Mute: (its message cannot be shown: str() of it raises SystemExit)"),
        (SystemExit(3), "SystemExit: 3 (sys.exit ends no run; raise an error instead)"),
        (ExceptionGroup("all", [KeyError(1)]), "ExceptionGroup: all (1 sub-exception), the first is KeyError: 1"),
    ],
)
def test_an_error_is_told_in_one_printable_line(error: BaseException, line: str) -> None:
    assert told(error) == line


def test_a_long_message_is_cut() -> None:
    assert len(one_line("word " * 10**6)) == LONGEST


@pytest.mark.parametrize("error", [ValueError("mine"), StopIteration(), GeneratorExit(), SystemExit(0)])
def test_whatever_is_raised_becomes_an_error_of_the_place_that_it_caused(error: BaseException) -> None:
    with pytest.raises(ModelError) as caught, user_code("model.name: my:net", ModelError):
        raise error
    assert str(caught.value) == f"model.name: my:net: {told(error)}"
    assert caught.value.__cause__ is error
    assert (caught.value.users, caught.value.memory) == (True, False)


def test_errors_of_raysims_own_and_ctrl_c_pass_but_not_a_users_subclass(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(RunError):
        pass

    for error in (RunError("mine"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as passed, user_code("here"):
            raise error
        assert passed.value is error
    with pytest.raises(UserCodeError, match="here: Own: mine"), user_code("here"):
        raise Own("mine")
    monkeypatch.setattr(user_code, "interruptible", False)  # as in an actor
    with pytest.raises(UserCodeError, match="here: KeyboardInterrupt"), user_code("here"):
        raise KeyboardInterrupt


def test_places_inside_places_are_all_named() -> None:
    round_3, rule, hook = naming("round 3"), user_code("the rule"), user_code("its hook")
    with pytest.raises(UserCodeError, match="round 3: the rule: its hook: KeyError: 1"), round_3, rule, hook:
        raise KeyError(1)
    key = user_code("the key", ConfigError)
    with pytest.raises(ConfigError, match="the key: its hook: KeyError: 1") as caught, key, hook:
        raise KeyError(1)
    assert isinstance(caught.value.__cause__, KeyError)


def test_memory_that_ran_out_is_told_from_other_errors() -> None:
    with pytest.raises(UserCodeError) as caught, user_code("here"):
        raise MemoryError
    assert caught.value.memory


def test_a_pickled_error_keeps_a_cause_that_can_be_pickled() -> None:
    def travelled(cause: BaseException) -> BaseException | None:
        error = ClientError("client 3, round 1: no", client=3, round=1, reason="no", memory=True)
        error.__cause__ = cause
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.client, again.round, again.reason, again.memory) == (str(error), 3, 1, "no", True)
        cause_again: BaseException | None = again.__cause__
        return cause_again

    assert isinstance(travelled(KeyError("mine")), KeyError)
    for lost in (Two(1, 2), ValueError(lambda: 1), ValueError("x" * 10**6)):
        assert travelled(lost) is None


class Contract:
    number = 3

    def hook(self, value: int) -> int:
        return value

    def other(self) -> int:
        return 1

    @property
    def fact(self) -> int:
        return 2


class Rule(Contract):
    def hook(self, value: int) -> int:
        if value < 0:
            raise ValueError("below 0")
        return super().hook(value)

    @property
    def fact(self) -> int:
        raise KeyError("fact")


def test_overridden_members_of_a_contract_are_guarded_and_no_others() -> None:
    def too_large(rule: Rule, found: int, value: int) -> str | None:
        return f"{found}" if found > rule.number else None

    made: Any = guarded(Rule, Contract, "rule my:Rule", returns={"hook": too_large})
    rule = made()
    assert isinstance(rule, Rule)
    assert made.__qualname__ == Rule.__qualname__
    assert made.other is Contract.other
    assert (rule.hook(3), rule.other()) == (3, 1)
    for call, line in (
        (lambda: rule.hook(-1), "rule my:Rule: hook: ValueError: below 0"),
        (lambda: rule.hook(4), "rule my:Rule: hook returned 4"),
        (lambda: rule.fact, "rule my:Rule: fact: KeyError: 'fact'"),
    ):
        with pytest.raises(UserCodeError) as caught:
            call()
        assert str(caught.value) == line
    alone: Any = guarded(Rule, Contract, "rule", apart_from={"hook"})
    with pytest.raises(ValueError, match="below 0"):
        alone().hook(-1)
