"""outdial: an open server for outbound call campaigns."""

__version__ = "0.1.0"
