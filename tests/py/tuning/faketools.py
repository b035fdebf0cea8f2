"""ethtool and tc of the machine in fakehost.py: they speak as the real ones do.

What the driver and the queueing layer know is in driver.json below the machine's root.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from iolab.tuning.knob import KnobError

KEY = "6d:5a:56:da"

_TSO = ("tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation",
        "tx-tcp6-segmentation")  # fmt: skip


def put(root: Path, where: str, text: str) -> None:
    """Makes a file of the machine, with the kernel's newline."""
    path = root / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def load(root: Path) -> dict[str, Any]:
    """What the pretended driver and tc know of eth0."""
    document: dict[str, Any] = json.loads((root / "driver.json").read_text())
    return document


def save(root: Path, state: dict[str, Any]) -> None:
    """Keeps it. A rename: a killed process leaves the old state or the new one."""
    temporary = root / "driver.tmp"
    temporary.write_text(json.dumps(state))
    temporary.rename(root / "driver.json")


def build_queue(root: Path, queue: int) -> None:
    """A receive and a transmit queue of eth0, nothing set."""
    place = "sys/class/net/eth0/queues"
    put(root, f"{place}/rx-{queue}/rps_cpus", "0")
    put(root, f"{place}/rx-{queue}/rps_flow_cnt", "0")
    put(root, f"{place}/tx-{queue}/xps_cpus", "0")
    put(root, f"{place}/tx-{queue}/xps_rxqs", "0")


def ethtool(root: Path, args: list[str]) -> str:
    """What `ethtool ARGS` prints. KnobError with its words when it fails."""
    flag, device, rest = args[0], args[1], args[2:]
    if device != "eth0":
        raise KnobError(f"ethtool: {device}: No such device")
    state = load(root)
    if flag in ("-n", "-N") and rest[1] != "tcp4":
        raise KnobError("ethtool: Cannot get RX network flow hashing options: not supported")
    answer = {"-l": _show_channels, "-g": _show_rings, "-c": _show_coalesce, "-k": _show_features,
              "-x": _show_rss, "-n": _show_flow_hash}.get(flag)  # fmt: skip
    if answer is not None:
        return answer(state)
    if flag == "-L":
        _set_channels(root, state, int(rest[1]))
    elif flag == "-G":
        # Drivers round up to a power of two.
        state[f"{rest[0]}_ring"] = 1 << (int(rest[1]) - 1).bit_length()
        _reset_affinities(root)
    elif flag == "-C":
        state["coalesce"][rest[0]] = rest[1]
    elif flag == "-K" and rest[0] == "ntuple":
        state["ntuple"] = rest[1]
    elif flag == "-K":
        # A group switches all its members, whatever each of them was.
        names = _TSO if rest[0] == "tso" else rest[:1]
        state["features"] |= {
            name: rest[1] for name in names if "fixed" not in state["features"][name]
        }
    elif flag == "-N":
        state["tcp4"] = rest[2]
    elif flag == "-X" and rest[0] == "hkey":
        if len(rest[1]) != len(KEY):
            raise KnobError("ethtool: Invalid hkey length")
        state["hkey"] = rest[1]
    elif flag == "-X":
        state["indirection"] = _indirection(state["channels"], rest)
    save(root, state)
    return ""


def rss_table(root: Path, args: list[str]) -> str:
    """What rss_table.py does: the kernel wants 16 entries here, all of them queues in use."""
    program, device, text = args
    assert (Path(program).name, device) == ("rss_table.py", "eth0")
    state, table = load(root), [int(word) for word in text.split(",")]
    if len(table) != 16 or max(table) >= state["channels"]:
        raise KnobError("eth0: RSS table refused: Invalid argument")
    save(root, {**state, "indirection": table})
    return ""


def _indirection(channels: int, words: list[str]) -> list[int]:
    """A table of 16 entries as ethtool fills it."""
    if words[0] == "weight":
        weights = [int(word) for word in words[1:]]
        shares = [16 * sum(weights[: n + 1]) // sum(weights) for n in range(len(weights))]
        return [sum(index >= share for share in shares) for index in range(16)]
    first = int(words[1]) if words[0] == "start" else 0
    count = channels if words[0] == "default" else int(words[-1])
    return [first + index % count for index in range(16)]


def _set_channels(root: Path, state: dict[str, Any], count: int) -> None:
    """What drivers do: queues come and go, masks and affinities are reset."""
    if count > 4:
        raise KnobError("ethtool: requested channel count exceeds maximum")
    for queue in range(4):
        for kind in ("rx", "tx"):
            shutil.rmtree(root / f"sys/class/net/eth0/queues/{kind}-{queue}", ignore_errors=True)
    for queue in range(count):
        build_queue(root, queue)
    _reset_affinities(root)
    state["channels"] = count
    state["indirection"] = _indirection(count, ["default"])
    if state["root"] == "mq":
        leaf = (root / "proc/sys/net/core/default_qdisc").read_text().strip()
        state["leaves"] = [leaf] * count


def _reset_affinities(root: Path) -> None:
    """The driver has asked for its interrupts anew."""
    for number in range(41, 49):
        put(root, f"proc/irq/{number}/smp_affinity_list", "0-3")


def _show_channels(state: dict[str, Any]) -> str:
    lines = "RX:\t\tn/a\nTX:\t\tn/a\nOther:\t\tn/a\nCombined:\t{}\n"
    return (
        f"Channel parameters for eth0:\nPre-set maximums:\n{lines.format(4)}"
        f"Current hardware settings:\n{lines.format(state['channels'])}"
    )


def _show_rings(state: dict[str, Any]) -> str:
    lines = "RX:\t\t{}\nRX Mini:\tn/a\nRX Jumbo:\tn/a\nTX:\t\t{}\n"
    return (
        f"Ring parameters for eth0:\nPre-set maximums:\n{lines.format(1024, 1024)}"
        f"Current hardware settings:\n{lines.format(state['rx_ring'], state['tx_ring'])}"
    )


def _show_coalesce(state: dict[str, Any]) -> str:
    values = state["coalesce"]
    return (
        f"Coalesce parameters for eth0:\nAdaptive RX: {values['adaptive-rx']}  TX: n/a\n"
        f"rx-usecs:\t{values['rx-usecs']}\nrx-frames:\tn/a\ntx-usecs:\t{values['tx-usecs']}\n"
        f"rx-usecs-irq:\t{values['rx-usecs-irq']}\nsample-interval: {values['sample-interval']}\n"
        f"pkt-rate-low: {values['pkt-rate-low']}\nrx-frame-low: {values['rx-frames-low']}\n"
        f"CQE mode RX: {values['cqe-mode-rx']}  TX: n/a\n"
    )


def _show_features(state: dict[str, Any]) -> str:
    on = state["features"]
    tso = "on" if any(on[name] == "on" for name in _TSO) else "off"
    members = "".join(f"\t{name}: {on[name]}\n" for name in _TSO)
    return (
        f"Features for eth0:\ntcp-segmentation-offload: {tso}\n{members}"
        f"generic-segmentation-offload: {on['gso']}\ngeneric-receive-offload: {on['gro']}\n"
        f"large-receive-offload: {on['lro']}\nntuple-filters: {state['ntuple']}\n"
    )


def _show_rss(state: dict[str, Any]) -> str:
    table = state["indirection"]
    rows = [
        f"{start:5d}:  {' '.join(f'{one:5d}' for one in table[start : start + 8])}"
        for start in (0, 8)
    ]
    return (
        f"RX flow hash indirection table for eth0 with {state['channels']} RX ring(s):\n"
        + "\n".join(rows)
        + f"\nRSS hash key:\n{state['hkey']}\nRSS hash function:\n    toeplitz: on\n"
    )


def _show_flow_hash(state: dict[str, Any]) -> str:
    words = {"s": "IP SA", "d": "IP DA", "f": "L4 bytes 0 & 1 [TCP/UDP src port]",
             "n": "L4 bytes 2 & 3 [TCP/UDP dst port]"}  # fmt: skip
    lines = "\n".join(words[letter] for letter in state["tcp4"])
    return f"TCP over IPV4 flows use these fields for computing Hash flow key:\n{lines}\n"


def tc(root: Path, args: list[str]) -> str:
    """What `tc ARGS` prints; only root disciplines and those below mq."""
    state = load(root)
    if args[0] == "-j":
        listing = [{"kind": state["root"], "handle": state["handle"], "root": True}]
        if state["root"] == "mq":
            below = enumerate(state["leaves"], 1)
            listing += [{"kind": kind, "handle": "0:", "parent": f":{n:x}"} for n, kind in below]
        return json.dumps(listing)
    default = (root / "proc/sys/net/core/default_qdisc").read_text().strip()
    if args[1] == "del":
        state |= {"root": "mq", "handle": "0:", "leaves": [default] * state["channels"]}
    elif "parent" in args:
        queue = int(args[args.index("parent") + 1].partition(":")[2], 16)
        state["leaves"][queue - 1] = args[-1]
    else:
        handle = args[args.index("handle") + 1]
        if handle == state["handle"] and args[-1] != state["root"]:
            raise KnobError("Error: Invalid qdisc name: must match existing qdisc.")
        leaves = [default] * state["channels"] if args[-1] == "mq" else []
        state |= {"root": args[-1], "handle": handle, "leaves": leaves}
    save(root, state)
    return ""
