"""Errors say what, where, value, limit and hint, in one line, and survive pickling."""

import copy
import pickle

import numpy as np
import pytest

from mdls_cosim import errors
from mdls_cosim.errors import ConfigError, ConvergenceError, InputError, MdlsError, SpiceError, SpiceTimeout, brief

EVERY_ERROR = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, MdlsError)]


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({}, "no result"),
        ({"where": "tile 3"}, "no result at tile 3"),
        ({"value": 2.0, "limit": 1.0}, "no result: got 2.0, allowed 1.0"),
        ({"value": 0}, "no result: got 0"),
        ({"limit": "at most 1 V"}, "no result: allowed at most 1 V"),
        ({"hint": "Try less"}, "no result. Try less"),
        (
            {"where": "rows", "value": "x", "limit": "1 or more", "hint": "Say a number"},
            'no result at rows: got "x", allowed 1 or more. Say a number',
        ),
        ({"value": np.float64(0.5)}, "no result: got 0.5"),
        ({"value": np.array([1, 2])}, "no result: got array([1, 2])"),
    ],
)
def test_the_sentence_holds_what_is_known_and_nothing_else(parts, sentence):
    assert str(MdlsError("no result", **parts)) == sentence


def test_the_sentence_is_one_line_and_cuts_long_values():
    error = MdlsError("it\nfailed", value="x" * 1000, hint="a\n  b")
    assert "\n" not in str(error)
    assert len(str(error)) < 200
    assert error.value == "x" * 1000


def test_a_full_stop_is_not_doubled():
    assert str(MdlsError("failed.", hint="Try again")) == "failed. Try again"


@pytest.mark.parametrize("kind", EVERY_ERROR)
@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_every_error_survives_pickling_and_copying(kind, again):
    error = kind("what", where="where", value=1, limit=2, hint="hint")
    other = again(error)
    assert type(other) is kind
    assert str(other) == str(error)
    assert vars(other) == vars(error)


def test_what_a_kind_carries_besides_survives_too():
    spice = pickle.loads(pickle.dumps(SpiceTimeout("late", deck="* deck", log="tail", limit="120 s")))
    assert (spice.deck, spice.log, spice.limit) == ("* deck", "tail", "120 s")
    assert pickle.loads(pickle.dumps(ConvergenceError("diverged", failed=[1, 4]))).failed == [1, 4]


def test_kinds_can_be_caught_as_the_builtins_they_resemble():
    assert issubclass(ConfigError, ValueError)
    assert issubclass(InputError, ValueError)
    assert issubclass(SpiceTimeout, SpiceError)
    assert all(issubclass(kind, MdlsError) for kind in EVERY_ERROR)
    assert len(EVERY_ERROR) == 15


def test_a_message_has_at_most_300_characters_and_keeps_the_ends_of_paths() -> None:
    error = ConfigError(
        "unknown key", where="/a" * 200 + "/plan.toml: tile.rws", value="v" * 500, limit="k, " * 300, hint="use rows"
    )
    message = str(error)
    assert len(message) <= 300
    assert message.startswith("unknown key at ...")
    assert "/plan.toml: tile.rws: got " in message
    assert message.endswith("use rows")
    assert error.limit == "k, " * 300
    assert len(str(ConfigError("w" * 5000, hint="h" * 5000))) <= 300


def test_a_foreign_error_in_brief() -> None:
    assert brief(ValueError("first\nsecond")) == "first"
    assert brief(ValueError()) == "ValueError"
    assert len(brief(ValueError("x" * 5000))) == 100


@pytest.mark.parametrize("part", ["what", "where", "value", "limit", "hint"])
def test_no_part_of_a_message_controls_the_terminal(part):
    """Texts of files and of other libraries come with escape sequences."""
    parts = {"what": "x", part: "\x1b[1mbold\x1b[0m \x1b]0;title\x07 \x9b31m\u202e"}
    message = str(MdlsError(parts.pop("what"), **parts))
    assert message.isprintable()
    assert "bold ?]0;title? ?31m?" in message
    assert brief(ValueError("\x1b[1mdo this\x1b[0m")) == "do this"
