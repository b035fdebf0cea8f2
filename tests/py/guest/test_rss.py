"""An RSS table that ethtool has no words for, on a real driver: it comes back entry by entry."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

from iolab.executor import HostExecutor
from iolab.guest.parts import Parts
from iolab.guest.session import Job, run_job

ROOT = Path(__file__).resolve().parents[3]

TABLE = [0, 0, 1, 2, 1, 3, 3, 0] * 16
"""128 entries, as QEMU's virtio NIC has them."""

SCRIPT = """
set -e
export IOLAB_ROOT={root} IOLAB_STATE=/run/tuning PYTHONPATH={root}/harness
cat >/run/trial.toml <<'END'
summary = "two queues of four"
[nic.rss]
indirection = 2
END
{python} {root}/harness/iolab/tuning/rss_table.py eth0 {table}
ethtool -x eth0 >/run/iolab/before
{python} -m iolab tune plan /run/trial.toml --interface eth0 --export /run/trial.sh >/dev/null
{python} -m iolab tune apply /run/trial.toml --interface eth0 >/dev/null
ethtool -x eth0 >/run/iolab/applied
{python} -m iolab tune revert --json >/run/iolab/reverted.json
ethtool -x eth0 >/run/iolab/after
sh /run/trial.sh
ethtool -x eth0 >/run/iolab/exported
sh /run/trial.sh.undo
ethtool -x eth0 >/run/iolab/undone
for wrong in 0,1 {table},0 4,{table}; do
	{python} {root}/harness/iolab/tuning/rss_table.py eth0 $wrong 2>>/run/iolab/refused && exit 9
done
ethtool -x eth0 >/run/iolab/still
"""


def entries(text: bytes) -> list[int]:
    """The table in what `ethtool -x` prints."""
    rows = re.findall(r"^\s*\d+:((?:\s+\d+)+)\s*$", text.decode(), re.MULTILINE)
    return [int(word) for row in rows for word in row.split()]


def test_a_table_that_mixes_queues_comes_back(real_parts: Parts) -> None:
    words = {"root": ROOT, "python": sys.executable, "table": ",".join(map(str, TABLE))}
    script = SCRIPT.format(**{name: shlex.quote(str(word)) for name, word in words.items()})
    with HostExecutor() as executor:
        outcome = run_job(executor, real_parts, Job(script))
    assert outcome.status == 0, outcome.stderr.decode(errors="replace")
    found = {name: entries(data) for name, data in outcome.files.items()}
    assert found["applied"] == found["exported"] == [0, 1] * 64
    for name in ("before", "after", "undone", "still"):
        assert found[name] == TABLE, name
    reverted = json.loads(outcome.files["reverted.json"])
    assert [one["problem"] for one in reverted["knobs"]] == [""]
    refusal = "eth0: RSS table refused: Invalid argument"
    assert outcome.files["refused"].decode().splitlines() == [refusal] * 3
