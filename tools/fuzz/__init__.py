"""Requests that no honest client makes, by the thousand; `make fuzz` runs them."""
