"""The features. Each seed plays some of them, and not others."""

from .calls import CALLS
from .dead_letters import DEAD_LETTERS
from .feature import Feature
from .full_queues import FULL_QUEUES
from .gathers import GATHERS
from .group_letters import GROUP_LETTERS
from .jobs import JOBS
from .keys import ORDER_BY_KEY
from .local_reads import LOCAL_READS
from .priorities import PRIORITIES
from .schedules import SCHEDULES
from .seeks import SEEKS
from .throttles import THROTTLES
from .times_to_live import TIMES_TO_LIVE
from .uniques import UNIQUES

__all__ = ["FEATURES", "Feature"]

FEATURES = (
    CALLS, DEAD_LETTERS, FULL_QUEUES, GATHERS, GROUP_LETTERS, JOBS, LOCAL_READS, ORDER_BY_KEY, PRIORITIES, SCHEDULES,
    SEEKS, THROTTLES, TIMES_TO_LIVE, UNIQUES,
)  # fmt: skip
