"""The broker of penstock.testing, as users get it."""

from penstock.testing.fixtures import broker as broker
from penstock.testing.fixtures import client as client
from penstock.testing.fixtures import crash_primary as crash_primary
