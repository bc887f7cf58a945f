"""Real SIP peers."""
