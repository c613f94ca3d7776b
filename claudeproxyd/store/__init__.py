"""Where state lives while the daemon does not, and how several daemons share it."""
