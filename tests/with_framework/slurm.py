"""A SLURM cluster of one node, this machine, made of Debian's packages slurm-wlm and munge in a folder of its own."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=long Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Return the programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start the cluster as the current user, and yield the variables by which SLURM's commands find it; end it after."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    configuration = folder / "slurm.conf"
    ports = {"controller_port": _free_port(), "node_port": _free_port()}
    host, user = socket.gethostname().split(".")[0], getpass.getuser()
    configuration.write_text(_CONFIGURATION.format(folder=folder, host=host, user=user, **ports))
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    places = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
    files = [f"--{option}={folder / name}" for option, name in {**places, "seed-file": "munge.seed"}.items()]
    with ExitStack() as daemons:
        for command in (
            ["munged", "--foreground", "--force", *files],
            ["slurmctld", "-D", "-f", str(configuration)],
            ["slurmd", "-D", "-f", str(configuration)],
        ):
            output = daemons.enter_context((folder / f"{command[0]}.out").open("w"))
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
            daemons.callback(process.wait)
            daemons.callback(process.terminate)
        _wait_until_idle(environment, folder)
        yield {"SLURM_CONF": str(configuration)}


def _wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    for _ in range(60):
        state = subprocess.run(["sinfo", "-h", "-o", "%t"], env=environment, capture_output=True, text=True)
        if state.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    logs = "\n".join(
        f"{path}:\n{path.read_text()[-2000:]}" for pattern in ("*.log", "*.out") for path in folder.glob(pattern)
    )
    raise RuntimeError(f"the cluster did not start: {state.stdout}{state.stderr}\n{logs}")


def _free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
