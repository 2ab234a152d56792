"""What can be wrong with a call."""


class LogQueueError(Exception):
    """A call that was refused. It changed nothing."""


class NoSuchTopic(LogQueueError):
    """The topic was never created."""


class NoSuchProducer(LogQueueError):
    """No producer has this id."""


class NoSuchConsumer(LogQueueError):
    """No consumer has this id."""


class Mismatch(LogQueueError):
    """The id belongs to another topic."""
