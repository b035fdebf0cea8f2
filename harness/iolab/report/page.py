"""The HTML page and the summary: `ReportView` in, text out."""

from __future__ import annotations

import dataclasses
from typing import Any

import jinja2

from iolab.curve import to_json
from iolab.report import fmt
from iolab.report.chart import Chart
from iolab.report.draw import TEMPLATES
from iolab.report.view import SCHEMA_VERSION, ReportView
from iolab.sizes import format_size
from iolab.wording import PER_SECOND


def html(view: ReportView, charts: list[Chart]) -> str:
    """The page: self-contained but for the chart files beside it; every value is escaped."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
    )
    css = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    return env.get_template("report.html.j2").render(
        view=view,
        charts={chart.name: chart for chart in charts},
        css=css,
        fmt=fmt,
        sizes=format_size,
        rates=PER_SECOND,
    )


def summary(view: ReportView) -> dict[str, Any]:
    """The verdicts as a JSON document: derived data, to be recomputed rather than archived."""
    return {
        "schema_version": SCHEMA_VERSION,
        "untrusted": view.untrusted,
        "run": view.run,
        "matrix": view.matrix,
        "baseline": view.baseline,
        "limitations": list(view.limitations),
        "controls": [dataclasses.asdict(fact) for fact in view.controls],
        "trust": [dataclasses.asdict(fact) for fact in view.trust],
        "workloads": [
            {
                "name": workload.name,
                "size_bytes": workload.size_bytes,
                "connections": workload.connections,
                "pipeline": workload.pipeline,
                "pairs": workload.pairs,
                "unit": workload.unit,
                "blocks": workload.blocks,
                "cpu_unit": workload.cpu_unit,
                "leader": workload.headline.leader.server if workload.headline.leader else None,
                "tied": list(workload.headline.tied),
                "how_sure": workload.headline.sure,
                "cells": [dataclasses.asdict(cell) for cell in workload.cells],
            }
            for workload in view.workloads
        ],
        "curves": [to_json(found) for found in view.curves],
        "crossings": [dataclasses.asdict(place) for place in view.crossings],
        "syscalls": [dataclasses.asdict(row) for row in view.syscalls],
        "ablations": [step.to_json() for step in view.ablations],
        "profiles": [dataclasses.asdict(one) for one in view.profiles],
        "wrk": [dataclasses.asdict(row) for row in view.wrk],
    }
