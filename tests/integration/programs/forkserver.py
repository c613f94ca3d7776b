"""Runs Python programs by forking itself: ``forkserver.py MODULE...``, modules that each has from the first.

What to run comes on the socket that is its standard input, from ``support/forkserver.py``; it ends with it.
"""

import gc
import json
import os
import signal
import socket
import sys
from importlib import import_module
from runpy import run_path


def started(orders: socket.socket, said: bytes, descriptors: list[int]) -> bool:
    """Fork a process off, a child of whoever adopts orphans, and tell its id. True: this is that process."""
    read, write = os.pipe()
    if parent := os.fork():
        os.waitpid(parent, 0)  # from here on its child is an orphan
        orders.send(os.read(read, 20))
        for each in (read, write, *descriptors):
            os.close(each)
        return False
    if child := os.fork():
        os.write(write, str(child).encode())
        os._exit(0)
    orders.detach()
    for number, each in enumerate(descriptors):
        os.dup2(each, number)
    os.closerange(len(descriptors), 64)
    what = json.loads(said)
    os.chdir(what["folder"])
    os.environ.clear()
    os.environ.update(what["environment"])
    sys.argv = what["program"]
    sys.path.insert(0, os.path.dirname(sys.argv[0]))
    return True


# Whoever runs the tests in the background has these ignored; who is executed by a reactor has them as ever.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
for module in sys.argv[1:]:
    import_module(module)
assert "twisted.internet.reactor" not in sys.modules  # each process makes its own
gc.collect()
gc.freeze()
orders = socket.socket(fileno=0)
while True:
    said, descriptors, _, _ = socket.recv_fds(orders, 65_536, 3)
    if not said:
        break
    if started(orders, said, descriptors):
        run_path(sys.argv[0], run_name="__main__")
        break
