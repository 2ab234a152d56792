"""Penstock: a durable job queue and topic log that feeds an MPI pool.

`connect` is where it begins; docs/ and README.md tell the rest.
"""

from penstock.client.arrays import JobArray
from penstock.client.client import Client
from penstock.client.cluster import ClusterInfo, MemberInfo, SnapshotInfo
from penstock.client.consumer import Consumer
from penstock.client.infos import GroupInfo, JobInfo, QueueInfo, Staleness, TopicInfo
from penstock.client.jobs import Job, JobOutcome
from penstock.client.message import Message
from penstock.client.opening import connect
from penstock.client.producer import Producer
from penstock.client.receipt import AckReceipt, Receipt
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
    "Client",
    "Closed",
    "ClusterInfo",
    "Consumer",
    "GroupInfo",
    "InvalidArgument",
    "Job",
    "JobArray",
    "JobCancelled",
    "JobFailed",
    "JobInfo",
    "JobOutcome",
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
    "Receipt",
    "SessionExpired",
    "SnapshotInfo",
    "Staleness",
    "StorageFull",
    "Timeout",
    "TooLarge",
    "TopicInfo",
    "Unauthenticated",
    "__version__",
    "connect",
    "task",
]
