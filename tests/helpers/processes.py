"""Run the command line in several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from helpers.support import ROOT


def launched(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in two processes."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--main_process_port", "0", "--module"]  # any that is free: tests run side by side
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([*launch, "audit_lit", *command], env=environment, cwd=cwd, capture_output=True, text=True)
