"""A program for llama.cpp's environment: ``model.py GGUF PORT`` serves the model with llama.cpp's own HTTP server."""

import sys
import threading

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path, params.hostnames, params.port = sys.argv[1], ["127.0.0.1"], int(sys.argv[2])
params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 4096, 2, 2
server = xllamacpp.Server(params)
threading.Event().wait()
