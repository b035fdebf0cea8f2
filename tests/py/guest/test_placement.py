"""Profile numa-local in the real guest: server and client are where it says, with their memory.

`tune plan` gives the commands; what the kernel made of them is read from /proc/PID/task/*/status
and /proc/PID/numa_maps (proc(5)). The client's side is shown by a second server: the other node's.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections import Counter
from pathlib import Path

import pytest

from iolab.executor import HostExecutor
from iolab.guest.machine import NIC_NODE
from iolab.guest.parts import Parts
from iolab.guest.session import Job, run_job
from iolab.paths import find_house
from iolab.topology import parse_cpu_list

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = """
set -e
export IOLAB_ROOT={root} IOLAB_STATE=/run/tuning PYTHONPATH={root}/harness
{python} -m iolab tune plan numa-local --interface eth0 --json >/run/iolab/plan.json || [ $? = 1 ]
binding() {{ {python} -c 'import json, sys
print(json.load(open("/run/iolab/plan.json"))["placement"][sys.argv[1]])' "$1"; }}
mkdir /run/www
echo hello >/run/www/index.html
fetch() {{ {python} -c 'import sys, urllib.request as r
sys.exit(r.urlopen(sys.argv[1]).read() != b"hello\\n")' "$1"; }}
place() {{
	$(binding "$1") {server} --engine epoll --role file --root /run/www --listen "127.0.0.1:$2" &
	until fetch "http://127.0.0.1:$2/index.html" 2>/dev/null; do sleep 0.1; done
	grep -h Cpus_allowed_list "/proc/$!/task/"*/status >"/run/iolab/$1.cpus"
	cat "/proc/$!/numa_maps" >"/run/iolab/$1.maps"
	kill $!
}}
place server 8080
place client 8081
"""


def pages(maps: str) -> Counter[int]:
    """Private pages of a process by node. Those of files may have been read by somebody before."""
    found: Counter[int] = Counter()
    for line in maps.splitlines():
        if "anon=" in line and "file=" not in line:
            found.update(
                {int(node): int(count) for node, count in re.findall(r" N(\d+)=(\d+)", line)}
            )
    return found


def test_server_and_client_have_cpus_and_memory_of_their_nodes(real_parts: Parts) -> None:
    house = find_house()
    if not house.server_binary.is_file():
        pytest.skip(f"{house.server_binary.name} is not built")
    words = {"root": ROOT, "python": sys.executable, "server": house.server_binary}
    script = SCRIPT.format(**{name: shlex.quote(str(path)) for name, path in words.items()})
    with HostExecutor() as executor:
        outcome = run_job(executor, real_parts, Job(script))
    assert outcome.status == 0, outcome.stderr.decode(errors="replace")
    text = {name: data.decode() for name, data in outcome.files.items()}
    assert json.loads(text["plan.json"])["placement"] == {
        "server": "numactl --physcpubind=2-3 --membind=1",
        "client": "numactl --physcpubind=0-1 --membind=0",
    }
    for side, node, cpus in (("server", NIC_NODE, {2, 3}), ("client", 1 - NIC_NODE, {0, 1})):
        lists = [parse_cpu_list(line.split()[1]) for line in text[f"{side}.cpus"].splitlines()]
        assert lists, side
        assert all(one <= cpus for one in lists), (side, lists)
        found = pages(text[f"{side}.maps"])
        elsewhere = [
            line for line in text[f"{side}.maps"].splitlines() if set(pages(line)) - {node}
        ]
        assert elsewhere == [], side
        assert found[node] > 0, side
