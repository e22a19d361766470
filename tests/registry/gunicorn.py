"""How gunicorn runs below MLflow's server in the tests: each process ends when the one that started it does.

The tests end MLflow by its pid, and it cannot take its children with it then.
"""

import ctypes
import signal

PR_SET_PDEATHSIG = 1


def on_starting(server):
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def post_fork(server, worker):
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
