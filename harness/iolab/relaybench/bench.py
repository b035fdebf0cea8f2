"""A whole relay bench: which servers, part after part, each on a server of its own; the store.

`manifest.json` says where and of what build, `parts.jsonl` gets one raw record a part and server,
synced as soon as it is there. Verdicts are not stored: they are judged from the records.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from iolab import manifest, store
from iolab.describe import Describe, Engine
from iolab.errors import IolabError
from iolab.executor import ProcessError
from iolab.lab import Lab
from iolab.model import SCHEMA_VERSION, Server
from iolab.relaybench import parts
from iolab.relaybench.model import KIND, Part, Record, Scale, Subject, record_from_json
from iolab.relaybench.probe import Probe
from iolab.servers import Place
from iolab.servers.iolab_server import IolabServer
from iolab.specs import Offer, parse_server

PARTS = "parts.jsonl"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What is to be run."""

    subjects: tuple[Subject, ...]
    parts: tuple[Part, ...]
    scale: Scale
    seed: int

    @property
    def steps(self) -> list[tuple[Part, Subject]]:
        """Part by part, so that the servers of a part stand close together in time."""
        return [(part, subject) for part in self.parts for subject in self.subjects]


def choose(specs: Sequence[str], offer: Offer) -> tuple[Subject, ...]:
    """The servers that `specs` name; without any, all relays and a buffering one to compare with.

    InputError names a spec that names nothing.
    """
    named = list(specs) or default_specs(offer.describe)
    servers: list[Server] = []
    for spec in named:
        full = spec if spec.startswith(("engine:", "peer:")) else f"engine:{spec}"
        servers += parse_server(full, offer, "relay", "--engine")
    return tuple(subject_of(server, offer.describe) for server in dict.fromkeys(servers))


def default_specs(describe: Describe) -> list[str]:
    """Every engine with role relay, and the first that can buffer as the comparison's baseline."""
    relays = [engine for engine in describe.engines if "relay" in engine.roles]
    buffering = [engine.name for engine in relays if _can_buffer(engine)]
    return [engine.name for engine in relays] + [
        f"{name},policy=buffered" for name in buffering[:1]
    ]


def subject_of(server: Server, describe: Describe) -> Subject:
    """A server with what decides over its targets; unsupported if it is no relay of ours."""
    engine = describe.engine(server.name) if server.kind == "engine" else None
    if engine is None:
        return Subject(replace(server, unsupported="only engines are looked into, no peers"))
    policy = dict(server.options).get("policy", "stream")
    return Subject(
        server,
        pipes=engine.option("pipe") is not None,
        queues=policy != "stream",
        threads=engine.driver == "blocking",
    )


def run_bench(lab: Lab, order: Order, say: Say) -> Path:
    """Runs it all; returns the run's directory. KeyboardInterrupt leaves finished parts stored."""
    run_dir = store.create_run_dir(lab.house.results, KIND, datetime.now())
    document = _manifest(lab, order, run_dir)
    _save(run_dir, document, "running")
    say(f"run: {run_dir}")
    started = time.monotonic()
    try:
        if Part.WAITING in order.parts:  # before servers start: they inherit it
            parts.raise_descriptor_limit(parts.descriptors_needed(order.scale))
        for number, (part, subject) in enumerate(order.steps, start=1):
            say(f"[{number}/{len(order.steps)}] {part}: {subject.label}")
            record = perform(lab, part, subject, order)
            store.append_jsonl(run_dir / PARTS, record.to_json())
            if record.reason is not None:
                say(f"  {record.status}: {record.reason}")
    except BaseException as error:
        _save(run_dir, document, f"interrupted: {type(error).__name__}")
        say(f"finished parts are kept; see them with: ./iolab report {run_dir.name}")
        raise
    document["timing"] = {"total_s": round(time.monotonic() - started, 3)}
    _save(run_dir, document, "finished")
    return run_dir


def perform(lab: Lab, part: Part, subject: Subject, order: Order) -> Record:
    """One part on a server that is started for it and stopped behind it."""
    started_unix_ns, started_ns = time.time_ns(), time.monotonic_ns()
    raw: dict[str, Any] = {}
    status, reason = "ok", subject.server.unsupported
    if reason is not None:
        status = "unsupported"
    else:
        try:
            raw = _on_fresh_server(lab, part, subject, order)
        except IolabError as error:
            status, reason = "failed", str(error)
    wall_ns = time.monotonic_ns() - started_ns
    return Record(part, subject, status, reason, started_unix_ns, wall_ns, raw)


def _on_fresh_server(lab: Lab, part: Part, subject: Subject, order: Order) -> dict[str, Any]:
    place = Place(lab.files, lab.scratch, _cpus(lab, part), lab.testbed)
    binary = lab.house.need(lab.house.server_binary)
    running = IolabServer.start(lab.executor, binary, subject.server, "relay", place)
    try:
        stage = parts.Stage(
            address=(running.host, running.port),
            pid=running.cpu_pids[0],
            probe=Probe(running),
            executor=lab.executor,
            load=tuple(lab.testbed.on_client([str(lab.house.need(lab.house.load_binary))])),
            load_cpu=lab.split.client,
            scale=order.scale,
            seed=order.seed,
        )
        raw = parts.run_part(part, stage)
        died = running.failure()
    except (ProcessError, OSError) as error:
        died = running.failure()
        raise ProcessError(f"{error}; {died}" if died else str(error)) from error
    finally:
        running.stop()
    if died:
        raise ProcessError(died)
    return {"workers": len(place.cpus), **raw}


def _cpus(lab: Lab, part: Part) -> tuple[int, ...]:
    """Aborts meet several workers, for connections are handed from one to another; the rest one."""
    if part is Part.ABORTS:
        return tuple(sorted(os.sched_getaffinity(0)))
    return lab.split.server


def read_records(run_dir: Path) -> Iterator[Record]:
    """The records of a run; StoreError names one that is not ours."""
    path = run_dir / PARTS
    for number, document in enumerate(store.read_jsonl(path), start=1):
        try:
            yield record_from_json(document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise store.StoreError(f"{path}:{number}: no record of a part: {error!r}") from error


def _manifest(lab: Lab, order: Order, run_dir: Path) -> dict[str, Any]:
    described = lab.describe
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "run": run_dir.name,
        "starts": [datetime.now().astimezone().isoformat(timespec="seconds")],
        "host": manifest.host_facts(executor=lab.executor),
        "quietness": manifest.quietness(),
        "cpus": asdict(lab.split),
        "testbed": lab.testbed.name,
        "compiler": described.compiler,
        "cflags": described.cflags,
        "build_type": described.build_type,
        "tools": manifest.tool_facts(lab.executor, {}),
        "git": manifest.git_facts(lab.executor, lab.house.root),
        "seed": order.seed,
        "scale": asdict(order.scale),
        "servers": [subject.label for subject in order.subjects],
        "parts": [str(part) for part in order.parts],
        "describe": described.model_dump(mode="json"),
    }


def _save(run_dir: Path, document: dict[str, Any], state: str) -> None:
    document["state"] = state
    store.write_json(run_dir / store.MANIFEST, document)


def _can_buffer(engine: Engine) -> bool:
    policy = engine.option("policy")
    return policy is not None and "buffered" in policy.values
