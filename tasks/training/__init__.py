"""Train one network from datasets on one worker, and score it there.

`submit_training` and `wait_result` are for the process that drives a run; `train` is the task.
"""

from __future__ import annotations

from tasks.training.session import train
from tasks.training.submission import submit_training, wait_result

__all__ = ["submit_training", "train", "wait_result"]
