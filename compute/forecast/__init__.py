"""Forecasts of time series by least-squares lines: the task that comes with Penstock."""

from .store import Series, load_series
from .tasks import forecast

__all__ = ["Series", "forecast", "load_series"]
