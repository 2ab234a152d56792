"""The features. Each seed plays some of them, and not others."""

from .dead_letters import DEAD_LETTERS
from .feature import Feature
from .jobs import JOBS
from .local_reads import LOCAL_READS
from .schedules import SCHEDULES
from .seeks import SEEKS
from .uniques import UNIQUES

__all__ = ["FEATURES", "Feature"]

FEATURES = (DEAD_LETTERS, JOBS, LOCAL_READS, SCHEDULES, SEEKS, UNIQUES)
