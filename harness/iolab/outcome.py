"""How a finished run is shown: tables or JSON on stdout, report, and where the time went."""

from __future__ import annotations

import click

from iolab.campaign import Result, finish_timing
from iolab.console import curve_table, emit_json, print_table, ranking_table, say
from iolab.curve import to_json
from iolab.model import Status


def show(result: Result, report: bool, as_json: bool) -> int:
    """Prints the verdicts and writes the report; returns the exit code.

    That is 1 when a cell failed or was invalid; an unsupported one is no failure.
    """
    bad = [
        cell
        for summary in result.summaries
        for cell in summary.cells
        if cell.status in (Status.FAILED, Status.INVALID)
    ]
    if not as_json:
        if result.untrusted is not None:
            click.echo(f"untrusted: {result.untrusted}")
        for summary in result.summaries:
            if not summary.workload.open_loop:
                print_table(ranking_table(summary))
        for curves in result.curves:
            print_table(curve_table(curves))
    page = _report(result) if report else None
    finish_timing(result)
    if as_json:
        emit_json(
            {
                "schema_version": 1,
                "untrusted": result.untrusted,
                "unproven": result.unproven,
                "run": str(result.run_dir),
                "baseline": result.plan.baseline,
                "left_out": list(result.plan.left_out),
                "stop_reason": result.outcome.stop_reason,
                "blocks": result.outcome.blocks,
                "timing": result.timing.to_json(),
                "overhead": result.outcome.overhead.to_json(),
                "report": page,
                "curves": [to_json(found) for found in result.curves],
                "controls": [control.text for control in result.controls],
                "workloads": [summary.to_json() for summary in result.summaries],
            }
        )
    for control in result.controls:
        say(f"A/A pair: {control.text}")
    if result.unproven is not None:
        say(result.unproven)
    _say_times(result)
    for cell in bad:
        say(f"{cell.status}: {cell.cell}: {cell.reason}")
    if page is not None:
        say(f"report: {page}")
    return 1 if bad else 0


def _report(result: Result) -> str | None:
    from iolab.report import try_report  # slow to load

    return try_report(result.run_dir)


def _say_times(result: Result) -> None:
    timing, outcome = result.timing, result.outcome
    facts = timing.to_json()
    say(f"{outcome.blocks} blocks, {outcome.slices} slices; stopped: {outcome.stop_reason}")
    wrk = f" ({facts['measuring_share']:.0%} with wrk's runs)" if timing.in_wrk_s else ""
    say(
        f"total {timing.total_s:.0f} s, inside slices {timing.in_slices_s:.0f} s = "
        f"{facts['slice_share']:.0%}{wrk}; "
        f"of the measuring loop alone {outcome.efficiency:.0%}"
    )
    met = "" if outcome.overhead.met is not False else " - over the limit"
    say(f"the harness itself: {outcome.overhead.text}{met}")
