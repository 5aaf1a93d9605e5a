"""hl7apy as the other side of MLLP.

    mllp.py send HOST:PORT FILE…        sends messages one after the other on one connection, and prints a line of JSON for
                                        each answer: {"code", "control_id", "errors", "text"}
    mllp.py receive OUT [CODE…]         listens on a free port of 127.0.0.1, which it prints; answers each message with the
                                        next of CODE (AA when there is none left), writes it to OUT/N.hl7, and ends when
                                        standard input does

Answers are read, and messages taken, by hl7apy's own parser and MLLP server.
"""

import json
import os
import socket
import sys
import threading

from hl7apy.core import Message
from hl7apy.mllp import AbstractHandler, MLLPServer
from hl7apy.parser import parse_message
from hl7apy.validation import Validator


def send(address, paths):
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        stream = connection.makefile("rb")
        for path in paths:
            connection.sendall(b"\x0b" + open(path, "rb").read() + b"\x1c\r")
            answer = b""
            while not answer.endswith(b"\x1c\r"):
                byte = stream.read(1)
                if not byte:
                    sys.exit(f"the connection ended after {answer!r}")
                answer += byte
            message = parse_message(answer[1:-2].decode("ascii"), find_groups=False)
            # An answer to what is no message cannot name it, as it must.
            if message.msa.msa_2.to_er7():
                Validator.validate(message)
            errors = [c.err_3.err_3_1.to_er7() for c in message.children if c.name == "ERR"]
            told = {
                "code": message.msa.msa_1.to_er7(),
                "control_id": message.msa.msa_2.to_er7(),
                "errors": errors,
                "text": answer.decode("ascii"),
            }
            print(json.dumps(told), flush=True)


class Handler(AbstractHandler):
    def __init__(self, message, out, codes):
        super().__init__(message)
        self.out, self.codes = out, codes

    def reply(self):
        told = parse_message(self.incoming_message, find_groups=True)
        valid = Validator.validate(told)
        number = len(os.listdir(self.out)) + 1
        with open(os.path.join(self.out, f"{number}.part"), "w", newline="") as file:
            file.write(self.incoming_message)
        os.rename(file.name, os.path.join(self.out, f"{number}.hl7"))
        answer = Message("ACK", version="2.5.1")
        answer.msh.msh_9 = "ACK^R01^ACK"
        answer.msh.msh_10 = f"A{number}"
        answer.msh.msh_11 = "P"
        code = self.codes.pop(0) if self.codes else "AA"
        answer.msa.msa_1 = code if valid else "AE"
        answer.msa.msa_2 = told.msh.msh_10.to_er7()
        return answer.to_mllp()


def receive(out, codes):
    handlers = {"ORU^R01^ORU_R01": (Handler, out, codes), "ERR": (Handler, out, codes)}
    server = MLLPServer("127.0.0.1", 0, handlers, timeout=30)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    what, first, *rest = sys.argv[1:]
    {"send": send, "receive": receive}[what](first, rest)
