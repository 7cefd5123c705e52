"""Computing sends nothing home, and forks nothing."""

import subprocess
import sys

ALONE = """
import sys
told = []
sys.addaudithook(lambda event, _: told.append(event))
from workers.engines.cpu import CpuEngine
assert not {"os.fork", "socket.connect", "subprocess.Popen", "socket.getaddrinfo"} & set(told)
assert "openvino_telemetry.main" not in sys.modules
assert "openvino" in sys.modules
"""


def test_nothing_is_sent_and_nothing_is_forked_when_openvino_is_imported(tmp_path):
    environment = {"PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", ALONE], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir()), "nor left at home"
