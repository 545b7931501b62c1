import pytest

from mdls_cosim.spice import doctor


@pytest.mark.ngspice
def test_a_healthy_machine_needs_no_remedy():
    checks = {check.name: check for check in doctor.checks()}
    assert all(check.ok and not check.remedy for check in checks.values() if check.needed)
    assert checks["ngspice library"].found.startswith("ngspice ")
    assert checks["torch"].found[0].isdigit()
    assert {"pyspice", "h5py", "numpy"} <= {name.lower() for name in checks}


def test_without_a_library_the_main_job_cannot_run_and_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NGSPICE_LIBRARY", "/nowhere/libngspice.so")
    checks = {check.name: check for check in doctor.checks()}
    library = checks["ngspice library"]
    assert (library.ok, library.needed) == (False, True)
    assert "/nowhere/libngspice.so" in library.found
    assert "install" in library.remedy
    assert not checks["matrix solver"].ok


def test_needed_checks_come_first():
    needed = [check.needed for check in doctor.checks("/nowhere/libngspice.so")]
    assert needed == sorted(needed, reverse=True)


@pytest.mark.parametrize(
    ("system", "command"),
    [
        ("debian-12", "bookworm-backports"),
        ("debian", "apt-get install ngspice libngspice0"),
        ("fedora", "dnf install"),
        ("macos", "brew install"),
        ("conda", "conda-forge"),
    ],
)
def test_every_system_has_its_command(system: str, command: str):
    assert command in doctor.how_to_install_ngspice(system)


def test_a_missing_package_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "requires", lambda _name: ["numpy>=1.26", "no-such-package>=1", "x; extra == 'test'"])
    checks = {check.name: check for check in doctor.checks("/nowhere/libngspice.so")}
    assert checks["numpy"].ok
    assert not checks["no-such-package"].ok
    assert "pip install no-such-package" in checks["no-such-package"].remedy
    assert "x" not in checks
