"""Penstock: a durable job queue and topic log that feeds an MPI pool.

`connect` is where it begins; docs/ and README.md tell the rest.
"""

from penstock.client.arrays import JobArray
from penstock.client.async_client import AsyncClient
from penstock.client.async_jobs import AsyncJob, AsyncJobArray
from penstock.client.async_messages import (
    AsyncAckReceipt,
    AsyncConsumer,
    AsyncMessage,
    AsyncProducer,
    AsyncReceipt,
    AsyncWatch,
)
from penstock.client.client import Client
from penstock.client.cluster import ClusterInfo, MemberInfo, SnapshotInfo
from penstock.client.consumer import Consumer
from penstock.client.events import Event, Watch
from penstock.client.infos import GroupInfo, JobInfo, QueueInfo, Reason, ScheduleInfo, Staleness, TopicInfo
from penstock.client.job_details import JobDetails, JobStep
from penstock.client.jobs import Job
from penstock.client.message import Message
from penstock.client.opening import connect, connect_async
from penstock.client.outcomes import JobOutcome
from penstock.client.producer import Producer
from penstock.client.receipt import AckReceipt, Receipt
from penstock.compute.current import CurrentJob, current_job, current_jobs
from penstock.compute.job_log import JobLogHandler
from penstock.compute.task import task
from penstock.peers.errors import (
    AlreadyExists,
    Closed,
    InvalidArgument,
    JobCancelled,
    JobFailed,
    LeaseLost,
    NoQuorum,
    NotFound,
    NotPrimary,
    PenstockError,
    PermissionDenied,
    ProtocolError,
    QueueFull,
    SessionExpired,
    StorageFull,
    Timeout,
    TooLarge,
    Unauthenticated,
)

__version__ = "0.1.0"

__all__ = [
    "AckReceipt",
    "AlreadyExists",
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
    "Closed",
    "ClusterInfo",
    "Consumer",
    "CurrentJob",
    "Event",
    "GroupInfo",
    "InvalidArgument",
    "Job",
    "JobArray",
    "JobCancelled",
    "JobDetails",
    "JobFailed",
    "JobInfo",
    "JobLogHandler",
    "JobOutcome",
    "JobStep",
    "LeaseLost",
    "MemberInfo",
    "Message",
    "NoQuorum",
    "NotFound",
    "NotPrimary",
    "PenstockError",
    "PermissionDenied",
    "Producer",
    "ProtocolError",
    "QueueFull",
    "QueueInfo",
    "Reason",
    "Receipt",
    "ScheduleInfo",
    "SessionExpired",
    "SnapshotInfo",
    "Staleness",
    "StorageFull",
    "Timeout",
    "TooLarge",
    "TopicInfo",
    "Unauthenticated",
    "Watch",
    "__version__",
    "connect",
    "connect_async",
    "current_job",
    "current_jobs",
    "task",
]
