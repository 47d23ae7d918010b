"""Who plays when: a rollup that is a fold of the log, and the sockets that were open. See docs/adr/0036."""
