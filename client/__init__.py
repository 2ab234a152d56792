"""What an application embeds: the session core (retries, fail-over, batching) and its thin shell."""

from .arrays import JobArray
from .client import Client
from .cluster import ClusterInfo, MemberInfo
from .consumer import Consumer
from .infos import GroupInfo, JobInfo, QueueInfo, Staleness, TopicInfo
from .jobs import Job, JobOutcome
from .message import Message
from .opening import connect
from .producer import Producer
from .receipt import AckReceipt, Receipt

__all__ = [
    "AckReceipt",
    "Client",
    "ClusterInfo",
    "Consumer",
    "GroupInfo",
    "Job",
    "JobArray",
    "JobInfo",
    "JobOutcome",
    "MemberInfo",
    "Message",
    "Producer",
    "QueueInfo",
    "Receipt",
    "Staleness",
    "TopicInfo",
    "connect",
]
