"""Classes of the reads in a Dataset."""

import numpy as np
import pytest

from mdls_cosim.errors import InputError
from mdls_cosim.surrogates.read_classes import class_codes, read_classes, seen_classes

PLAN = {"read": {"conductance_classes": ["uniform", "bimodal"], "input_classes": ["dense"]}}


def test_codes_count_the_classes_of_the_configuration() -> None:
    codes = class_codes({"conductance_class": np.array([1, 1])}, PLAN, "conductance")
    assert seen_classes(PLAN, "conductance", codes) == ("bimodal",)
    assert read_classes(PLAN, codes, np.array([0])).tolist() == [["bimodal / dense"]] * 2
    assert read_classes({}, codes, np.array([0])).tolist() == [["1 / 0"]] * 2


@pytest.mark.parametrize("codes", [[0.0, 1.0], [-1, 0], [0, 2], [True, False], [1j, 0]])
def test_other_codes_are_refused(codes: list) -> None:
    with pytest.raises(InputError, match=r"codes of classes that cannot be at read/conductance_class.*from 0 to 1"):
        class_codes({"conductance_class": np.array(codes)}, PLAN, "conductance")


def test_reads_without_classes_are_refused() -> None:
    with pytest.raises(InputError, match="without the classes"):
        class_codes({}, PLAN, "input")
