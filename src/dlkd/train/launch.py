"""How many processes were started together; without torch, so that an error is said at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dlkd.errors import UserError, first_line


@dataclass(frozen=True)
class Launch:
    """How many processes were started, and which of them this is, as the launcher says in the environment.

    Args:
        world: processes in all.
        rank: this one, counted from 0.
        nodes: machines.
        by: who started them.
    """

    world: int = 1
    rank: int = 0
    nodes: int = 1
    by: Literal["", "torchrun", "srun"] = ""

    @classmethod
    def found(cls, environment: Mapping[str, str] | None = None) -> Launch:
        """That of ``torchrun`` or of SLURM's ``srun``; one process where there is neither.

        Raises:
            UserError: the variables make no sense.
        """
        env = os.environ if environment is None else environment
        try:
            if "TORCHELASTIC_RUN_ID" in env:
                world = int(env["WORLD_SIZE"])
                return cls(world, int(env["RANK"]), world // int(env["LOCAL_WORLD_SIZE"]), "torchrun")
            # A shell of SLURM's has these variables, too, but no step of srun with several tasks.
            if int(env.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
                world, rank, nodes = (int(env[f"SLURM_{n}"]) for n in ("STEP_NUM_TASKS", "PROCID", "NNODES"))
                return cls(world, rank, nodes, "srun")
        except (KeyError, ValueError) as error:
            raise UserError(
                f"expected the variables of torchrun or srun in the environment, but {first_line(error)} is missing or "
                "no number; start the processes with one of them"
            ) from error
        return cls()
