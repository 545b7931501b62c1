"""Files are checked before the work begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdls_cosim.cli.files import check_input, check_output, size_of
from mdls_cosim.errors import StoreError


def test_missing_input(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no such file at .*absent\.h5"):
        check_input(tmp_path / "absent.h5")


def test_folder_as_input(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="this is a folder"):
        check_input(tmp_path)


def test_output_into_missing_folder_names_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"folder does not exist at .*/absent\. Create it: mkdir -p .*/absent$"):
        check_output(tmp_path / "absent" / "out.h5", force=True)


def test_existing_output_needs_force(tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    assert check_output(out, force=False) == out
    out.touch()
    with pytest.raises(StoreError, match="--force"):
        check_output(out, force=False)
    assert check_output(out, force=True) == out


def test_folder_as_output(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="this is a folder"):
        check_output(tmp_path, force=True)


def test_input_is_never_replaced(tmp_path: Path) -> None:
    data = tmp_path / "data.h5"
    data.touch()
    (tmp_path / "link.h5").symlink_to(data)
    for out in (data, tmp_path / "link.h5"):
        with pytest.raises(StoreError, match="would replace the input"):
            check_output(out, force=True, source=data)


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_340_000, "2.34 MB")])
def test_size(count: int, text: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(count))
    assert size_of(tmp_path / "file") == text
