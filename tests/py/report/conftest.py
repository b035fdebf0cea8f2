"""Fixtures of the report's tests: one full synthetic run, written and reported once."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _sibling(name: str) -> ModuleType:
    """A helper module beside this file (importlib mode puts no test folder on the path)."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_sibling("synthetic")


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 11 servers, 5 sizes and 20 blocks with one cell of every kind."""
    from synthetic import Synthetic

    return Synthetic().write(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def report_dir(run_dir: Path) -> Path:
    """The written report of `run_dir`."""
    from iolab.report import write_report

    return write_report(run_dir).parent
