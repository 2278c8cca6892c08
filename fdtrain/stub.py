"""What ``mpirun`` starts in place of a rank of its own: asks the fork server for the rank, and ends as it ends.

Started as a script and without site packages, a hundred at a time, so it imports next to nothing.
"""

import json
import os
import signal
import socket
import sys


def main(address: str, arguments: list[str]) -> int:
    """Have the rank forked; return its exit status (or die of its signal)."""
    files = []
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            os.fstat(number)
        except OSError:
            continue  # the listing's own
        files.append(number)
    umask = os.umask(0)
    os.umask(umask)
    request = {
        "files": files,
        "arguments": arguments,
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "umask": umask,
        "processors": sorted(os.sched_getaffinity(0)),
    }
    header = json.dumps(request).encode() + b"\n"
    server = socket.socket(socket.AF_UNIX)
    server.connect(address)  # now that all is ready: the server waits for what is said
    sent = socket.send_fds(server, [header], files)
    server.sendall(header[sent:])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: server.sendall(bytes([number])))
    answer = b""
    while not answer.endswith(b"\n"):
        part = server.recv(64)
        if not part:
            return 1  # the server is gone, and the rank with it
        answer += part
    status = int(answer)
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
