"""A campaign of 2,000 points, killed (SIGKILL) at ten random moments, against one that was not.

    python benchmarks/campaign.py [--quick] [--json] [--points N] [--kills N]

Prints the points that each kill left, whether one was lost or done twice, and whether the content hashes agree.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mdls_cosim.characterize import Campaign, Characterization, Journal
from mdls_cosim.dataset import Dataset

PLAN = """
seed = 3
[tile]
rows = 2
cols = 2
row_line_resistance = "1 ohm"
column_line_resistance = "2 ohm"
sense_resistance = "12 ohm"
cell = {{ model = "sinh", nonlinearity = "3 / V" }}
[read]
tiles = {points}
vectors = 1
conductance_classes = ["uniform"]
input_classes = ["signed"]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help="400 points")
    parser.add_argument("--points", type=int)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    options.points = options.points or (400 if options.quick else 2000)
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "plan.toml"
        spec.write_text(PLAN.format(points=options.points))
        rate = float(re.findall(r"([\d.e+]+) /s", run(spec, "whole.h5"))[-1])
        print(f"uninterrupted: {options.points} points at {rate:.3g} /s")
        kept = killed(spec, options.points, options.kills, random.Random(options.seed))
        last = run(spec, "killed.h5", "--resume")
        again = int(re.findall(r"(\d+) operating points in", last)[0])
        hashes = [Dataset.load(spec.with_name(name)).content_hash for name in ("whole.h5", "killed.h5")]
    result = {
        "points": options.points,
        "points_per_second": rate,
        "kept_after_kills": kept,
        "lost": sum(max(0, before - after) for before, after in itertools.pairwise(kept)),
        "done_twice": again - (options.points - kept[-1]),
        "same_content_hash": hashes[0] == hashes[1],
    }
    print(f"kept after each of {len(kept)} kills: {', '.join(map(str, kept))}")
    print(f"lost {result['lost']}, done twice {result['done_twice']}, content hash {hashes[1]}")
    print("the same as uninterrupted" if result["same_content_hash"] else f"NOT THE SAME: {hashes[0]}")
    if options.json:
        print(json.dumps(result))
    sys.exit(not result["same_content_hash"])


def command(spec: Path, out: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "mdls_cosim", "characterize", str(spec), "--out", str(spec.with_name(out)), *options]


def run(spec: Path, out: str, *options: str) -> str:
    done = subprocess.run(command(spec, out, *options), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the campaign ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def killed(spec: Path, points: int, kills: int, generator: random.Random) -> list[int]:
    """How many points the journal holds after each kill; one comes after a random number of writes to the journal."""
    journal = spec.with_name("killed.h5.journal")
    written = journal.with_name("killed.h5.journal-wal")
    planned = Campaign(Characterization.load_toml(spec)).points
    kept = []
    while len(kept) < kills:
        process = subprocess.Popen(
            command(spec, "killed.h5", "--resume"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        writes, last = generator.randrange(points // kills), -1
        while process.poll() is None and writes:
            now = written.stat().st_mtime_ns if written.exists() else last
            writes -= now != last
            last = now
            time.sleep(0.001)
        process.kill()
        if process.wait() != -signal.SIGKILL:
            raise SystemExit("the campaign ended before its last kill: more points, or fewer kills")
        with Journal.open(journal, resume=True) as opened:
            kept.append(opened.count(planned))
    return kept


if __name__ == "__main__":
    main()
