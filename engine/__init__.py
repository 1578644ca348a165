"""session-engine: columnar analytics for intraday market sessions."""

__version__ = "0.1.0"
