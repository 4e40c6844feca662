"""What the helper program reads of a plan lies inside it, whatever the plan says (a damaged or hostile one on disk)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from securitykit import HERE
from securitykit import require_root

from pycontainers import Container

require_root()

NATIVE = HERE.parent.parent / "_native"


def test_no_plan_that_is_accepted_leads_outside_of_itself(box: type[Container], store_root: Path, tmp_path: Path) -> None:
    driver = tmp_path / "driver"
    subprocess.run([os.environ.get("CC", "cc"), "-w", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
                    f"-I{NATIVE}", "-o", str(driver), str(HERE / "plan_fuzz.c"), str(NATIVE / "plan.c"), str(NATIVE / "memory.c")],
                   check=True)
    container = box("sleep", "60", environment={"A": "1"}, volumes={str(tmp_path): "/data"})
    plan = next(store_root.rglob(f"{container.id}/plan"))
    done = subprocess.run([driver, plan, "200000"], capture_output=True, text=True, check=False,
                          env={**os.environ, "LD_PRELOAD": "", "ASAN_OPTIONS": "detect_leaks=0"})
    container.remove()
    assert done.returncode == 0, done.stderr
    passed = int(done.stdout.split()[1])
    assert 1000 < passed < 199_000
