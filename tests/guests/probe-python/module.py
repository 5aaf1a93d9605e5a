"""Tries to reach what no module may reach, and says what came of it: `NAME: refused` or `NAME = VALUE`."""

import os
import random
import socket
import sys
import time

from wit_world.imports import log


def say(line):
    log.write(log.Level.INFO, line)


def attempt(what, act):
    try:
        got = act()
    except Exception as error:
        say(f"{what}: refused ({type(error).__name__})")
    else:
        say(f"{what} = {got!r}")


class WitWorld:
    def analyze(self) -> None:
        attempt("read", lambda: open("/etc/passwd").read())
        attempt("relative", lambda: open("module.py").read())
        attempt("write", lambda: open("/tmp/probe", "w"))
        attempt("list", lambda: os.listdir("/"))
        attempt("list here", lambda: os.listdir("."))

        attempt("stream", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        attempt("datagram", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        attempt("connect", lambda: socket.create_connection(("127.0.0.1", 80)))
        # Bytes, since a text is encoded by what would have to be imported now.
        attempt("lookup", lambda: socket.getaddrinfo(b"localhost", 80))

        attempt("home", lambda: os.environ.get("HOME"))
        # Those that componentize-py set when it made this are kept; the host has others.
        attempt("variables", lambda: [name for name in os.environ if "PY" not in name])
        attempt("arguments", lambda: sys.argv[1:])
        attempt("input", lambda: sys.stdin.read())

        attempt("clock", time.time)
        start = time.monotonic_ns()
        attempt("sleep", lambda: time.sleep(3600))
        attempt("passed", lambda: sum(range(100_000)) and time.monotonic_ns() - start)
        attempt("random", lambda: os.urandom(8).hex())
        attempt("generator", lambda: random.SystemRandom().getrandbits(32))

        print("printed", flush=True)
        print("complained", file=sys.stderr, flush=True)
