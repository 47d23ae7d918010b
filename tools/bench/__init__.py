"""`make bench`: what this service does on this machine, measured from outside, over HTTP and sockets."""
