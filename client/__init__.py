"""What an application embeds: the session core (retries, fail-over, batching) and its thin shell."""

from .arrays import JobArray
from .async_client import AsyncClient
from .async_jobs import AsyncJob, AsyncJobArray
from .async_messages import AsyncAckReceipt, AsyncConsumer, AsyncMessage, AsyncProducer, AsyncReceipt, AsyncWatch
from .client import Client
from .cluster import ClusterInfo, MemberInfo
from .consumer import Consumer
from .events import Event, Watch
from .infos import GroupInfo, JobInfo, QueueInfo, Reason, ScheduleInfo, Staleness, TopicInfo
from .job_details import JobDetails, JobStep
from .jobs import Job
from .message import Message
from .opening import connect, connect_async
from .outcomes import JobOutcome
from .producer import Producer
from .receipt import AckReceipt, Receipt

__all__ = [
    "AckReceipt",
    "AsyncAckReceipt",
    "AsyncClient",
    "AsyncConsumer",
    "AsyncJob",
    "AsyncJobArray",
    "AsyncMessage",
    "AsyncProducer",
    "AsyncReceipt",
    "AsyncWatch",
    "Client",
    "ClusterInfo",
    "Consumer",
    "Event",
    "GroupInfo",
    "Job",
    "JobArray",
    "JobDetails",
    "JobInfo",
    "JobOutcome",
    "JobStep",
    "MemberInfo",
    "Message",
    "Producer",
    "QueueInfo",
    "Reason",
    "Receipt",
    "ScheduleInfo",
    "Staleness",
    "TopicInfo",
    "Watch",
    "connect",
    "connect_async",
]
