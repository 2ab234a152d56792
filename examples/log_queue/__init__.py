"""A log queue in the shape that many small SDKs have, on Penstock: see README.md beside this file."""

from .client import Client
from .consumer import Consumer
from .errors import LogQueueError, Mismatch, NoSuchConsumer, NoSuchProducer, NoSuchTopic
from .producer import Producer

__all__ = [
    "Client",
    "Consumer",
    "LogQueueError",
    "Mismatch",
    "NoSuchConsumer",
    "NoSuchProducer",
    "NoSuchTopic",
    "Producer",
]
