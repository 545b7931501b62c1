"""Files are checked before the work begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mdls_cosim import cli
from mdls_cosim.cli.files import check_input, check_output, content_of, size_of
from mdls_cosim.errors import ConfigError, StoreError


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


@pytest.mark.parametrize("error", [KeyError("tiles"), TypeError("x"), ValueError("y" * 500), ZeroDivisionError()])
def test_content_that_is_not_what_its_kind_holds_is_one_error(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(StoreError, match=r"content that cannot be shown at .*file\.h5.*altered") as found,
        content_of(tmp_path / "file.h5"),
    ):
        raise error
    assert found.value.__cause__ is error
    assert len(str(found.value)) <= 300


@pytest.mark.parametrize("error", [ConfigError("x"), BrokenPipeError(), UnicodeEncodeError("ascii", "é", 0, 1, "no")])
def test_what_is_not_of_the_content_stays_as_it_is(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)), content_of(tmp_path / "file.h5"):
        raise error


@pytest.mark.parametrize("command", [("info",), ("report", "--out", "page.html")])
@pytest.mark.parametrize("layer", ['{"name": "a", "rms": 0.1}', "[]", '{"rms": {}}'])
def test_an_altered_audit_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], layer: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("audit.json").write_text(f'{{"by_layer": [{layer}], "pairs": {{}}, "subject": {{}}, "read_time": null}}')
    found = CliRunner().invoke(cli.app, [command[0], "audit.json", *command[1:]])
    assert found.exit_code == 2
    assert "content that cannot be shown" in found.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["audit.json"]
