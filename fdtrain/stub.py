"""What ``mpirun`` starts in place of a rank of its own: asks the fork server for the rank, and ends as it ends.

Started as a script and without site packages, a hundred at a time, so it imports next to nothing: of modules that are
part of the interpreter, or in C. ``socket``, ``signal`` and ``json`` would take longer than all the rest.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import marshal
import os
import sys

_INT = 4  # bytes of a file's number, as it is passed on
_SIGNALS = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGUSR1, _signal.SIGUSR2)


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
    content = marshal.dumps(request)
    header = len(content).to_bytes(_INT, sys.byteorder) + content
    server = _socket.socket(_socket.AF_UNIX)
    server.connect(address)  # now that all is ready: the server waits for what is said
    passed = b"".join(number.to_bytes(_INT, sys.byteorder) for number in files)
    sent = server.sendmsg([header], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, passed)])
    server.sendall(header[sent:])
    for number in _SIGNALS:
        _signal.signal(number, lambda number, frame: server.sendall(bytes([number])))
    answer = b""
    while not answer.endswith(b"\n"):
        part = server.recv(64)
        if not part:
            return 1  # the server is gone, and the rank with it
        answer += part
    status = int(answer)
    if status < 0:
        if -status != _signal.SIGKILL:
            _signal.signal(-status, _signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
