"""The report's folder: filled beside the old one, whose place it takes when complete."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

INDEX = "index.html"
FOLDER = "report"


def replace_folder(run_dir: Path, fill: Callable[[Path], None]) -> Path:
    """Has `fill` write a report into a new folder; returns the path of its index.html."""
    folder = run_dir / FOLDER
    fresh = Path(tempfile.mkdtemp(prefix=".report-", dir=run_dir))
    try:
        fill(fresh)
        fresh.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        fresh.rename(folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return folder / INDEX
