"""A real irqbalance in the guest: it leaves the NIC's interrupts where the profile put them.

It balances every second, and says each time what it has: the interrupts are looked at once it has
done so three times since it was told.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from iolab.executor import HostExecutor
from iolab.guest.parts import Parts, which
from iolab.guest.session import Job, run_job
from iolab.paths import find_house
from iolab.trial.recording import Snapshot
from iolab.trial.values import interrupt_names

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = """
set -e
export IOLAB_ROOT={root} IOLAB_STATE=/run/tuning PYTHONPATH={root}/harness
mkdir -p /run/irqbalance
{daemon} --debug --interval=1 >/run/balance 2>&1 &
pid=$!
passes() {{ grep -c '^Package 0' /run/balance || :; }}
three_more() {{
	wanted=$(($(passes) + 3))
	until [ "$(passes)" -ge "$wanted" ]; do sleep 0.2; done
}}
banned() {{ {python} -c 'import sys
from pathlib import Path
from iolab.tuning import irqbalance
print(*sorted(irqbalance.banned(Path("/"), int(sys.argv[1]))))' $pid; }}
until [ -S /run/irqbalance/irqbalance$pid.sock ]; do sleep 0.1; done
three_more
banned >/run/iolab/before
{python} -m iolab tune apply numa-local --interface eth0 --json >/run/iolab/applied.json
three_more
banned >/run/iolab/during
cat /proc/interrupts >/run/iolab/interrupts
for number in $(cat /run/iolab/during); do
	echo "$number $(cat /proc/irq/$number/smp_affinity_list)"
done >/run/iolab/affinities
{python} -m iolab tune verify --json >/run/iolab/verified.json
{python} -m iolab tune revert --json >/run/iolab/reverted.json
banned >/run/iolab/after
kill -0 $pid
kill $pid
"""


def test_a_running_irqbalance_leaves_the_nics_interrupts_alone(real_parts: Parts) -> None:
    fetched = find_house().cache / "guest/usr/sbin/irqbalance"
    daemon = fetched if fetched.is_file() else which("irqbalance")
    if daemon is None:
        pytest.skip("irqbalance is neither in .cache/guest nor installed: ./iolab setup --guest")
    words = {"root": ROOT, "python": sys.executable, "daemon": daemon}
    script = SCRIPT.format(**{name: shlex.quote(str(path)) for name, path in words.items()})
    with HostExecutor() as executor:
        outcome = run_job(executor, real_parts, Job(script))
    assert outcome.status == 0, outcome.stderr.decode(errors="replace")
    text = {name: data.decode() for name, data in outcome.files.items()}
    names = interrupt_names(Snapshot({"/proc/interrupts": text["interrupts"]}, {}))
    queues = {
        number: int(match[1])
        for number, name in names.items()
        if (match := re.search(r"-(?:in|out)put\.(\d)$", name))
    }
    assert len(queues) == 8
    assert text["before"].split() == text["after"].split() == []
    assert {int(number) for number in text["during"].split()} == set(queues)
    found = {int(number): cpu for number, cpu in map(str.split, text["affinities"].splitlines())}
    assert found == {number: str(2 + queue % 2) for number, queue in queues.items()}
    knobs = json.loads(text["applied.json"])["knobs"]
    assert [one for one in knobs if "may move it back" in one["reason"]] == []
    assert all(one["ok"] for one in json.loads(text["verified.json"])["knobs"])
