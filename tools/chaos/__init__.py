"""`make chaos`: real processes, real stores, real faults, and an oracle that knows what every client was told."""
