"""The life of the worker process: it stays small, and it never outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.spice import Deck, NgspiceEngine, Waves
from mdls_cosim.spice.probe import known_circuit

pytestmark = pytest.mark.ngspice

PROC = Path("/proc")
needs_proc = pytest.mark.skipif(not (PROC / "self" / "statm").exists(), reason="needs /proc")


def resident_pages(process: int) -> int:
    return int((PROC / str(process) / "statm").read_text().split()[1])


def state(process: int) -> str:
    """R while it computes, S while it waits, Z or X once it has ended."""
    try:
        return (PROC / str(process) / "stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "X"


def becomes(process: int, states: str) -> bool:
    end = time.monotonic() + 30
    while (reached := state(process) in states) is False and time.monotonic() < end:
        time.sleep(0.005)
    return reached


@needs_proc
@pytest.mark.parametrize("method", ["alter", "sweep"])
def test_memory_stays_flat_over_many_jobs(engine: NgspiceEngine, sinh_tile, method):
    deck = sinh_tile(8)
    values = np.random.default_rng(0).uniform(-0.3, 0.3, (2, 8))

    def resident_after(jobs: int) -> int:
        for _ in range(jobs):
            engine.run(deck, values, method)
        worker = engine.worker_pid
        assert worker is not None
        return resident_pages(worker) * os.sysconf("SC_PAGESIZE")

    before, after = resident_after(50), resident_after(250)
    # A leak of the circuit alone would be 0.3 MB a job, 75 MB in all; the allocator's own unrest is about 1 MB.
    assert after - before < 4e6


@needs_proc
def test_a_parent_that_is_killed_leaves_no_worker_behind_even_a_busy_one():
    script = (
        "import threading, time, numpy as np\n"
        "from mdls_cosim.spice import NgspiceEngine, Deck\n"
        "class Hanging(Deck):\n"
        "    def assembled(self, *arguments):\n"
        "        loop = '.control\\nwhile 1\\nlet a = 1\\nend\\n.endc\\n.end'\n"
        "        return super().assembled(*arguments).replace('.end', loop)\n"
        "deck = Hanging('hanging', ('Vin in 0 0', 'Rin in 0 1'), sources=('Vin',), probes=('i(vin)',))\n"
        "engine = NgspiceEngine(deadline=600)\n"
        "engine.info()\n"
        "threading.Thread(target=engine.run, args=(deck, np.ones((1, 1)))).start()\n"
        "time.sleep(0.2)\n"
        "print(engine.worker_pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert becomes(worker, "R")
        parent.kill()
    assert becomes(worker, "ZX")


def test_an_interrupt_at_the_keyboard_is_not_the_workers_to_see(engine: NgspiceEngine, gives_the_known_current):
    engine.info()
    worker = engine.worker_pid
    assert worker is not None
    assert os.getsid(worker) != os.getsid(0)
    os.kill(worker, signal.SIGINT)
    gives_the_known_current(engine)
    assert engine.worker_pid == worker


def test_closing_ends_the_worker_and_a_later_run_starts_another(engine: NgspiceEngine, gives_the_known_current):
    gives_the_known_current(engine)
    engine.close()
    assert engine.worker_pid is None
    gives_the_known_current(engine)


def test_an_engine_that_is_forgotten_or_forked_harms_nobody():
    script = (
        "import os, sys, numpy as np\n"
        "from mdls_cosim.spice import NgspiceEngine\n"
        "from mdls_cosim.spice.probe import known_circuit\n"
        "deck, values, current = known_circuit()\n"
        "engine = NgspiceEngine()\n"
        "def right(): return abs(engine.run(deck, values).column('i(vsense)')[0] - current) < 1e-12\n"
        "assert right()\n"
        "worker = engine.worker_pid\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    good = right() and engine.worker_pid != worker\n"
        "    engine.close()\n"
        "    os._exit(0 if good else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "assert right() and engine.worker_pid == worker\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_threads_that_share_an_engine_wait_for_each_other(engine: NgspiceEngine):
    from concurrent.futures import ThreadPoolExecutor

    deck, _, _ = known_circuit()
    inputs = [np.array([[float(k)], [2.0 * k]]) for k in range(1, 9)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda values: engine.run(deck, values).column("i(vsense)"), inputs))
    np.testing.assert_allclose(results, np.stack(inputs)[:, :, 0] / 4000, rtol=1e-12)


SETTINGS = "* a user's own settings\noption method=gear trtol=7\nset ngbehavior=ltpsa\nalias op show all\n"


def waveform() -> np.ndarray:
    """A transient and an operating point of a fresh worker."""
    deck = Deck("rc", ("Vin in 0 0", "Rin in out 1e3", "Cout out 0 1e-9"), sources=("Vin",), probes=("v(out)",))
    waves = Waves(np.array([0.0, 1e-8, 3e-6]), np.array([[0.0], [1.0], [1.0]]), 1e-7, tolerance=1e-3)
    with NgspiceEngine() as engine:
        point, ran = engine.run(deck, np.array([[0.5]]), "alter"), engine.transient(deck, waves)
        return np.concatenate([point.values.ravel(), ran.times, ran.values.ravel()])


def test_settings_of_the_user_change_no_result(tmp_path, monkeypatch):
    """ngspice sources `.spiceinit` of the working folder, else of the home, and `spinit` of SPICE_SCRIPTS."""
    expected = waveform()
    for name in (".spiceinit", "spice.rc", "spinit"):
        (tmp_path / name).write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(waveform(), expected)
    monkeypatch.setenv("SPICE_SCRIPTS", str(tmp_path))
    monkeypatch.setenv("NGSPICE_MEAS_PRECISION", "3")
    np.testing.assert_array_equal(waveform(), expected)


@needs_proc
def test_the_worker_stays_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with NgspiceEngine() as engine:
        engine.info()
        assert os.readlink(PROC / str(engine.worker_pid) / "cwd") == str(tmp_path)
