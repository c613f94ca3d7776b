"""What the whole-daemon tests are written with: the daemon as a process, a scripted upstream, real and raw clients."""
