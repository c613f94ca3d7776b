"""Several processes as one daemon, without processes."""
