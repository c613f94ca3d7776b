"""A program for llama.cpp's environment: ``model.py GGUF PORT TEMPLATE`` serves the model with llama.cpp's own server.

TEMPLATE is a file in Jinja that stands in for the model's own chat template."""

import sys
import threading
from pathlib import Path

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path, params.hostnames, params.port = sys.argv[1], ["127.0.0.1"], int(sys.argv[2])
# Of two threads each waits for the other by spinning, which takes minutes where others want the processor too.
params.n_ctx, params.n_parallel, params.cpuparams.n_threads, params.warmup = 4096, 2, 1, False
params.chat_template = Path(sys.argv[3]).read_text()
server = xllamacpp.Server(params)
threading.Event().wait()
