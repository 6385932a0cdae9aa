"""Where the clips of a batch are measured, apart from the code that measures so that ``--help`` is fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from t4g_tracker.errors import ConfigError

if TYPE_CHECKING:
    import torch

MEMORY_EACH_GB = 2.5  # for a clip at 480p; at most 1.6 was measured (docs/results.md)


@dataclass(frozen=True)
class Machines:
    """Where clips are measured, and the cores of each."""

    workers: int = 0  # processes on this machine; 0: as many as its cores, GPUs and memory allow
    threads: int = 1  # cores for each clip; another number changes results, as another seed does
    ray: str = ""  # address of a cluster; empty: this machine

    def __post_init__(self) -> None:
        from t4g_tracker.hardware import cores

        if self.workers < 0 or self.threads < 1:
            raise ConfigError("--threads must be at least 1, and --workers 0 (as many as fit) or more")
        if self.ray and self.workers:
            raise ConfigError("--workers is for this machine; leave it out with --ray, and set --threads")
        if not self.ray and max(1, self.workers) * self.threads > cores():
            raise ConfigError(
                f"--workers {self.workers or 1} with --threads {self.threads} need more than the {cores()} "
                "cores of this machine; set one of them lower"
            )

    def workers_here(self, device: torch.device) -> int:
        """Choose the number of processes on this machine."""
        import torch

        from t4g_tracker.hardware import cores

        if self.workers:
            return self.workers
        if device.type != "cpu":
            gpus = torch.cuda.device_count() if device.type == "cuda" and device.index is None else 1
            return max(1, min(gpus, cores() // self.threads))
        free = psutil.virtual_memory().available / 1e9
        return max(1, min(cores() // self.threads, int(free / MEMORY_EACH_GB)))
