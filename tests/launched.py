"""A command in several processes, as ``torchrun`` starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def launch(
    arguments: Sequence[str], processes: int, cwd: Path, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run ``torchrun ARGUMENTS`` with so many processes of one thread each; waits for the end of all."""
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "200",
    }
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [*launcher, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )
