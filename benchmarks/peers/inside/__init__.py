"""What runs with the interpreter of the peers' environment: nothing but the standard library and the peer is there."""
